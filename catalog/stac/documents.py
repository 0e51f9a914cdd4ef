"""Untrusted JSON: parsed with limits, and refused with an error of one line."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from spectile.catalog.errors import UsageError

LONGEST_LINE = 400
"""Longest line that quotes untrusted text, characters."""


_WHAT = "not a STAC item or document"


def parse_json(value: bytes, where: str, *, strict: bool = True, what: str = _WHAT) -> Any:
    """The parsed value of a JSON text.

    Parameters
    ----------
    where : the name of the document, for errors.
    strict : refuse NaN and Infinity. JSON does not have them, but many programs write them.
    what : what is said of a text that is refused.

    Raises
    ------
    UsageError : the text is not JSON, or nested too deep.
    """
    try:
        if not strict:
            return json.loads(value)
        return json.loads(value, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise UsageError(what, where=where, got="JSON that is nested too deep") from None
    except ValueError as err:
        raise UsageError(what, where=where, got=f"no JSON: {str(err)[:80]}") from err


def is_plain(value: Any) -> bool:
    """Whether parsed JSON can be written again: every number finite, every text in Unicode."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def one_line(value: object) -> str:
    """A line that is safe to show: without unprintable characters, and shortened in the middle."""
    line = re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]+", " ", str(value))
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number
