"""Values of options from their text, as the command line has them."""

from __future__ import annotations

import re

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_bytes(text: str) -> int:
    """Bytes of a text such as ``4GB``, ``500MB`` or ``2GiB``; a bare number counts bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT]?)(i?)B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise typer.BadParameter(f"{text!r} is no amount of memory; give e.g. 4GB, 500MB or 2GiB")
    number, prefix, binary = match.groups(default="")
    power = ("", "k", "m", "g", "t").index(prefix.lower())
    count = int(float(number) * (1024 if binary else 1000) ** power)
    if count < 1:
        raise typer.BadParameter("memory must be more than nothing")
    return count


def parse_region(text: str) -> tuple[float, ...]:
    """The four numbers of ``XMIN,YMIN,XMAX,YMAX``."""
    try:
        x_min, y_min, x_max, y_max = (float(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not XMIN,YMIN,XMAX,YMAX") from err
    return x_min, y_min, x_max, y_max


def parse_bands(text: str) -> tuple[int | str, ...]:
    """Band numbers and names between commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise typer.BadParameter(f"{text!r} is not a list of bands; give e.g. 3,2,1 or red,green,blue")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def parse_layers(text: str) -> tuple[str, ...]:
    """Names between commas; ``none`` is no name."""
    return () if text == "none" else tuple(text.split(","))


def parse_time(text: str) -> float:
    """Seconds of a text such as ``30s``, ``10m``, ``6h`` or ``1d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no time; give e.g. 30s, 10m, 6h or 1d")
    return float(match.group(1)) * _UNITS[match.group(2)]
