from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.times import parse_open_span, parse_span, taken, to_text


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024-06-01T10:30:00Z", "2024-06-01T10:30:00Z", "2024-06-01T10:30:00Z"),
        ("2024-06-01T10:30", "2024-06-01T10:30:00Z", "2024-06-01T10:30:00Z"),
        ("2024-06-01T10:30:00+02:00", "2024-06-01T08:30:00Z", "2024-06-01T08:30:00Z"),
        ("2024-02", "2024-02-01T00:00:00Z", "2024-02-29T23:59:59.999999Z"),
        ("2024", "2024-01-01T00:00:00Z", "2024-12-31T23:59:59.999999Z"),
        ("2023-12-31/2024-01-01", "2023-12-31T00:00:00Z", "2024-01-01T23:59:59.999999Z"),
    ],
)
def test_a_time_names_its_first_and_last_moment(text: str, start: str, end: str) -> None:
    assert tuple(map(to_text, parse_span(text))) == (start, end)


@pytest.mark.parametrize(
    "text",
    ["", "..", "/", "../..", "yesterday", "2024-13", "2024-06-31", "2024-06-02/2024-06-01", "20240601"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_open_span(text)


def test_a_side_can_be_open_in_a_search_only() -> None:
    assert parse_open_span("2024-06-01T00:00Z/..") == (datetime(2024, 6, 1, tzinfo=UTC), None)
    assert parse_open_span("/2024")[0] is None
    with pytest.raises(UsageError):
        parse_span("2024/..")


def test_the_surest_of_a_rasters_tags_says_when_it_was_taken() -> None:
    written = {"TIFFTAG_DATETIME": "2024:07:02 09:00:00"}
    moment = datetime(2024, 7, 2, 9, tzinfo=UTC)
    assert taken(written) == (moment, moment)
    seen = moment - timedelta(days=1)
    assert taken({**written, "ACQUISITIONDATETIME": "2024-07-01 09:00:00 UTC"}) == (seen, seen)
    assert taken({**written, "EXIF_DateTimeOriginal": "0000:00:00 00:00:00"}) == (moment, moment)
    assert taken({"TIFFTAG_DATETIME": "last summer"}) is None
    assert taken({}) is None
