"""When a scene was taken: times as users, STAC and rasters write them, in UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from spectile.catalog.errors import UsageError

Span = tuple[datetime, datetime]
"""First and last moment; the same twice where it is one."""
OpenSpan = tuple[datetime | None, datetime | None]
"""The same; None where a side is open."""

UNKNOWN_START = datetime(1900, 1, 1, tzinfo=UTC)
"""Where nobody knows when a scene was taken, it was between this and the item's creation."""

_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE", "EXIF_DateTimeOriginal",
         "TIFFTAG_DATETIME")  # fmt: skip
"""Metadata of a raster that say when it was taken, the surest first."""


def parse_span(text: str) -> Span:
    """The span that a time (RFC 3339), a day, month or year, or START/END names.

    Without an offset, times are UTC. A day lasts to its last microsecond.

    Raises
    ------
    UsageError : the text is none of these.
    """
    start, end = parse_open_span(text)
    if start is None or end is None:
        raise _unusable(text)
    return start, end


def parse_open_span(text: str) -> OpenSpan:
    """As ``parse_span``; ``..`` or nothing on one side of the slash leaves it open.

    Raises
    ------
    UsageError : the text is none of these, or ends before it starts.
    """
    first, slash, last = text.strip().partition("/")
    start = None if slash and first in ("", "..") else _moments(first, text)[0]
    end = None if slash and last in ("", "..") else _moments(last if slash else first, text)[1]
    if (start is None and end is None) or (start and end and start > end):
        raise _unusable(text)
    return start, end


def _moments(text: str, whole: str) -> Span:
    found = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text)
    try:
        if not found:
            if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", text):
                raise _unusable(whole)
            moment = datetime.fromisoformat(text)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
            return moment, moment
        year, month, day = (int(part) if part else None for part in found.groups())
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
    """When a raster was taken by its own metadata, taken for UTC; None where they do not say.

    Parameters
    ----------
    tags : names and values of all metadata domains that may say it.
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
    """The span from the first start to the last end; None where one is not known, or there is none."""
    known = [span for span in spans if span is not None]
    if not known or len(known) < len(spans):
        return None
    return min(start for start, _ in known), max(end for _, end in known)


def to_text(moment: datetime) -> str:
    """The moment as RFC 3339 has it, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def when(moment: datetime | None, start: datetime | None, end: datetime | None) -> str:
    """When a scene was taken, for people."""
    if moment is not None:
        return f"{moment:%Y-%m-%dT%H:%MZ}"
    if start is None or end is None or start == UNKNOWN_START:
        return "unknown"
    return f"{start:%Y-%m-%d}" if start.date() == end.date() else f"{start:%Y-%m-%d}/{end:%Y-%m-%d}"
