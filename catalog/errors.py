"""The errors that spectile raises for input it cannot use; the command line prints them as one line."""

from __future__ import annotations

from spectile.catalog.redaction import redact


class SpectileError(Exception):
    """An expected failure, as one line: what, where, got, expected, remedy. Secrets in URLs are removed.

    ``exit_code`` is what the command line returns: 2 for bad usage, 1 for a failed run, 3 and 4 if
    another run has the cube.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        line = f"{where}: {what}" if where else what
        facts = [
            f"{key} {value}" for key, value in (("got", got), ("expected", expected)) if value is not None
        ]
        if facts:
            line += f" ({', '.join(facts)})"
        if remedy:
            line += f"; {remedy}"
        # A file name that is not valid UTF-8 could not be printed.
        shown = redact(line).encode("utf-8", "backslashreplace").decode()
        super().__init__(" ".join(shown.split()))

    def __reduce__(self) -> tuple[object, ...]:
        # An error of a worker is pickled: keep the finished line, without the keyword arguments.
        return (_rebuild, (type(self), str(self)))


def _rebuild(cls: type[SpectileError], line: str) -> SpectileError:
    error = cls.__new__(cls)
    Exception.__init__(error, line)
    return error


class UsageError(SpectileError):
    """A setting, path or option that cannot be used."""

    exit_code = 2


class SceneError(UsageError):
    """A scene that cannot be used: its bands, CRS or radiometry."""


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged or not the requested one."""


class CubeError(UsageError):
    """An output store that exists, is incomplete or belongs to other settings."""


class BlockError(SpectileError):
    """A block that could not be read, predicted or written."""


class NetworkError(SpectileError):
    """A network that failed on its tiles, not for lack of memory; a second attempt may work."""


class StoreError(SpectileError):
    """An output store that cannot be written; the run stops and can be resumed."""


class LeaseHeld(SpectileError):
    """Another run is writing the cube; nothing was changed."""

    exit_code = 3


class LeaseLost(SpectileError):
    """The run was paused for so long that another run took over its cube; it stops writing."""

    exit_code = 4
