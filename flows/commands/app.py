"""The command line, put together: ``main``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.flows.commands import (  # noqa: F401
    benchmark,
    catalog,
    compare,
    cube,
    demo,
    export,
    fuse,
    line,
    models,
    plan,
    report,
    run,
    view,
    watch,
)
from spectile.flows.commands.root import app
from spectile.flows.console import console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. An expected failure is one line on stderr, a bug a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return int(app(args=given or ["--help"], prog_name="spectile", standalone_mode=False) or 0)
    except SpectileError as err:
        console.print_error(err)
        return err.exit_code
    except typer.TyperException as err:
        message = getattr(err, "format_message", err.__str__)()
        console.print_error(f"{message.rstrip('.')}; see spectile --help")
        return UsageError.exit_code
    except BrokenPipeError:
        # The reader of our output has ended; buffered output must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as err:
        console.print_error(f"{err.filename or 'input/output'}: {err.strerror or err}")
        return 1
    except MemoryError:
        console.print_error("not enough memory; lower --memory, --samples or --batch")
        return 1


if __name__ == "__main__":
    sys.exit(main())
