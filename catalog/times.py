"""Acquisition times of scenes, as users, STAC and rasters write them, in UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from spectile.catalog.errors import UsageError

Span = tuple[datetime, datetime]
"""First and last moment; equal for a single moment."""
OpenSpan = tuple[datetime | None, datetime | None]
"""The same; None for an open side."""

UNKNOWN_START = datetime(1900, 1, 1, tzinfo=UTC)
"""Start of the span of an unknown acquisition time; its end is the item's creation."""

_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE", "EXIF_DateTimeOriginal",
         "TIFFTAG_DATETIME")  # fmt: skip
"""Metadata tags of a raster with its acquisition time, the most reliable first."""


def parse_span(text: str) -> Span:
    """The span that a time (RFC 3339), a day, month or year, or START/END names.

    Without an offset, times are UTC. A day lasts to its last microsecond.

    Raises
    ------
    UsageError : the text has another form.
    """
    start, end = parse_open_span(text)
    if start is None or end is None:
        raise _unusable(text)
    return start, end


def parse_open_span(text: str) -> OpenSpan:
    """Like ``parse_span``; ``..`` or nothing on one side of the slash leaves that side open.

    Raises
    ------
    UsageError : the text has another form, or the span ends before it starts.
    """
    first, slash, last = text.strip().partition("/")
    start = None if slash and first in ("", "..") else _moments(first, text)[0]
    end = None if slash and last in ("", "..") else _moments(last if slash else first, text)[1]
    if (start is None and end is None) or (start and end and start > end):
        raise _unusable(text)
    return start, end


def _moments(text: str, whole: str) -> Span:
    match = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text)
    try:
        if not match:
            if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", text):
                raise _unusable(whole)
            moment = datetime.fromisoformat(text)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
            return moment, moment
        year, month, day = (int(part) if part else None for part in match.groups())
        assert year is not None
        last_month = month or 12
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        last = datetime(year, last_month, day or monthrange(year, last_month)[1], tzinfo=UTC)
        return start, last + timedelta(days=1) - timedelta(microseconds=1)
    except (ValueError, OverflowError) as err:
        raise _unusable(whole) from err


def _unusable(text: str) -> UsageError:
    return UsageError(
        "not a time", got=repr(text),
        expected="e.g. 2024-06-01T10:30:00Z, 2024-06-01, 2024-06 or START/END",
    )  # fmt: skip


def taken(tags: Mapping[str, str]) -> Span | None:
    """The acquisition time in a raster's metadata, assumed to be UTC; None if there is none.

    Parameters
    ----------
    tags : names and values of all metadata domains that may hold it.
    """
    for name in _TAGS:
        # Exif and TIFF write 2024:06:01 10:30:00.
        text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", tags.get(name, "").strip().strip("\0"))
        try:
            return parse_span(text.replace(" UTC", "Z"))
        except UsageError:
            continue
    return None


def join(spans: Sequence[Span | None]) -> Span | None:
    """The span from the first start to the last end; None if a span is unknown or the list is empty."""
    known = [span for span in spans if span is not None]
    if not known or len(known) < len(spans):
        return None
    return min(start for start, _ in known), max(end for _, end in known)


def to_text(moment: datetime) -> str:
    """The moment in RFC 3339 format, UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def when(moment: datetime | None, start: datetime | None, end: datetime | None) -> str:
    """The acquisition time as text to show."""
    if moment is not None:
        return f"{moment:%Y-%m-%dT%H:%MZ}"
    if start is None or end is None or start == UNKNOWN_START:
        return "unknown"
    return f"{start:%Y-%m-%d}" if start.date() == end.date() else f"{start:%Y-%m-%d}/{end:%Y-%m-%d}"
