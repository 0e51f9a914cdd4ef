"""What a terminal gets to see of names that somebody else chose."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from spectile.flows.console import console

NAME = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt\r\n12:00:00 done [bold red]b[/] \udcff é"
"""It sets the window's title, clears the screen, turns red and around, and begins a line of its own."""
SEEN = r"a\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt\r\n12:00:00 done [bold red]b[/] \udcff é"


def test_an_error_shows_control_characters_instead_of_sending_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_error(f"no scene {NAME}")
    expected = SEEN.replace(r"\r\n", " ")  # an error is one line by itself
    assert capsys.readouterr().err == f"spectile: error: no scene {expected}\n"


def test_tables_and_pairs_show_them_in_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("name", "n"), [(NAME, "1"), ("b", "2")])
    console.print_pairs({"scene": NAME})
    console.print_line(f"item {NAME}")
    *table, pair, line = capsys.readouterr().out.splitlines()
    assert table == [
        f"{'name':<{len(SEEN)}}  n",
        f"{SEEN}  1",
        f"{'b':<{len(SEEN)}}  2",
    ]
    assert pair == f"scene  {SEEN}"
    assert line == f"item {SEEN}"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_line_shows_them_and_is_no_markup(terminal: bool) -> None:
    shown = io.StringIO()
    handler = console.ConsoleHandler(Console(file=shown, force_terminal=terminal, soft_wrap=True))
    handler.emit(logging.LogRecord("spectile", logging.INFO, "", 0, "scene %s", (NAME,), None))
    assert shown.getvalue() == f"scene {SEEN}\n"
