import math

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.documents import LONGEST_LINE, is_plain, one_line, parse_json


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deep"),
        ("nonsense", "no JSON"),
        ("\xff", "no JSON"),
        ("[NaN]", "NaN is no number"),
        ("[1e999]", "1e999 is too large"),
    ],
)
def test_what_is_no_json_is_refused_in_a_line(text, why):
    with pytest.raises(UsageError, match=rf"a\.json: not a STAC item or document .*{why}"):
        parse_json(text.encode("latin-1"), "a.json")


def test_numbers_that_json_has_not_are_read_where_others_write_them():
    assert math.isnan(parse_json(b"[NaN]", "a.json", strict=False)[0])


def test_only_what_can_be_written_again_is_plain():
    assert is_plain({"a": [1.5, "ä", None]})
    assert not any(map(is_plain, (math.nan, [math.inf], "\ud800")))


def test_a_line_is_short_and_printable_whatever_it_is_about():
    line = one_line("begin\x1b[2J\r\n" + "x" * 10_000 + "\u202eend")
    assert line.startswith("begin [2J ")
    assert line.endswith("end")
    assert len(line) == LONGEST_LINE + len(" … ")
    assert one_line(UsageError("short")) == "short"
