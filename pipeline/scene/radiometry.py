"""How stored numbers become reflectance: declared once for a scene, never guessed per tile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.colour import srgb_to_linear
from spectile.catalog.errors import SceneError, UsageError

DISPLAY_PERCENTILE = 98.0
DISPLAY_TARGET = 0.30
"""The scene-wide gain of a display picture maps this percentile of its luminance to this reflectance.

The exposure of a picture made for the eye is unknown, so no choice is right for every scene. These values
put open land (soil, crops, roofs) near its usual reflectance; `display:GAIN` states a better gain.
"""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float64)  # ITU-R BT.709, linear light


@dataclass(frozen=True)
class Radiometry:
    """Reflectance = (number − offset) · scale, or for ``display`` = sRGB⁻¹(number · scale) · gain."""

    kind: str
    """``reflectance``, ``display`` or ``dn``."""
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Per channel, in stored numbers."""
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Per channel, reflectance (or display value in [0, 1]) per stored number."""
    gain: float | None = None
    """Scene-wide factor on linear display values; None until it is measured."""

    def to_reflectance(self, numbers: NDArray[np.generic]) -> NDArray[np.float32]:
        """Reflectance, (C, ...) float32, of stored numbers of shape (C, ...)."""
        shape = (len(self.scale),) + (1,) * (numbers.ndim - 1)
        offset = np.array(self.offset, dtype=np.float32).reshape(shape)
        scale = np.array(self.scale, dtype=np.float32).reshape(shape)
        if self.kind == "display" and numbers.dtype == np.uint8:
            # Each of the 256 numbers once.
            every = np.broadcast_to(np.arange(256, dtype=np.float32), (len(self.scale), 256))
            table = self.to_reflectance(every)
            return np.stack([row.take(band) for row, band in zip(table, numbers, strict=True)])
        values = (numbers.astype(np.float32) - offset) * scale
        if self.kind != "display":
            return values
        if self.gain is None:
            raise ValueError("the display gain of the scene has not been measured")
        return srgb_to_linear(values) * np.float32(self.gain)

    def to_json(self) -> dict[str, object]:
        """The radiometry as plain values, for digests and attributes."""
        return {
            "kind": self.kind,
            "offset": list(self.offset),
            "scale": list(self.scale),
            "gain": self.gain,
        }


@dataclass(frozen=True)
class Stated:
    """What is said of a band outside of its file; value = number · scale + offset, as in GDAL."""

    scale: float | None = None
    """Reflectance per number; None if nobody says."""
    offset: float = 0.0
    """Reflectance of the number 0."""
    nodata: float | None = None
    """The number of missing pixels."""


def parse_radiometry(text: str) -> tuple[str, tuple[float, ...]]:
    """The kind and the numbers of an option such as ``dn:1000,0.0001`` or ``display:0.6``.

    ``display_peak`` reads the peak of ``display/255:0.6``.
    """
    kind, _, rest = text.strip().partition(":")
    if display_peak(text) is not None:
        kind = "display"
    try:
        numbers = tuple(float(part) for part in rest.split(",")) if rest else ()
    except ValueError as err:
        raise _unknown(text) from err
    wanted = {"reflectance": (0,), "display": (0, 1), "dn": (2,)}
    if len(numbers) not in wanted.get(kind, ()) or not all(np.isfinite(numbers)):
        raise _unknown(text)
    if (kind == "dn" and numbers[1] == 0) or (kind == "display" and numbers and numbers[0] <= 0):
        raise _unknown(text)
    return kind, numbers


def display_peak(text: str) -> float | None:
    """The number that means white, from ``display/PEAK``; None if the option does not state it."""
    kind, mark, peak = text.strip().partition(":")[0].partition("/")
    if not mark:
        return None
    try:
        number = float(peak)
    except ValueError as err:
        raise _unknown(text) from err
    if kind != "display" or not 0 < number < float("inf"):
        raise _unknown(text)
    return number


def _unknown(text: str) -> UsageError:
    return UsageError(
        "unknown radiometry",
        got=repr(re.sub(r"\s+", " ", text)[:60]),
        expected="reflectance, display, display:GAIN, display/PEAK:GAIN or dn:OFFSET,SCALE",
        remedy="see spectile run --help",
    )


def declare(
    option: str | None,
    *,
    where: str,
    dtype: str,
    offsets: tuple[float, ...],
    scales: tuple[float, ...],
) -> tuple[Radiometry, str | None]:
    """The radiometry of a scene from the user's option and the file's metadata, and a notice.

    ``offsets`` and ``scales`` are as in GDAL, value = number · scale + offset. The file's own scale is used
    if there is one; an option that differs from it is refused. Floats without a scale count as reflectance
    here; the caller checks their range.

    Raises
    ------
    SceneError : neither the file nor the option declares a radiometry, they disagree, or the file's scale
        gives no reflectance.
    """
    kind, numbers = parse_radiometry(option) if option else (None, ())
    none, count = tuple(0.0 for _ in scales), len(scales)
    declared = set(scales) != {1.0} or set(offsets) != {0.0}
    is_float = np.issubdtype(np.dtype(dtype), np.floating)
    if not np.isfinite([*offsets, *scales]).all() or 0 in scales:
        raise SceneError(
            "the file's own scale cannot be used",
            where=where,
            got=f"scales {', '.join(f'{value:g}' for value in scales)}, "
            f"offsets {', '.join(f'{value:g}' for value in offsets)}",
            expected="finite numbers, and scales other than 0",
            remedy="correct the file's metadata, e.g. rio edit-info",
        )
    if declared:
        if kind in ("display", "dn"):
            raise SceneError(
                "the file declares its own scale",
                where=where,
                got=f"--radiometry {option}",
                expected=f"scale {scales[0]:g}, offset {offsets[0]:g} as in the file",
                remedy="leave --radiometry out, or correct the file's metadata",
            )
        stored = tuple(-o / s for o, s in zip(offsets, scales, strict=True))
        return Radiometry("reflectance", stored, scales), None
    if kind == "dn":
        offset, scale = numbers
        return Radiometry("dn", (offset,) * count, (scale,) * count), None
    if kind == "display" or (kind is None and dtype == "uint8"):
        peak = display_peak(option) if option else None
        if peak is None and is_float:
            raise SceneError(
                "floats do not say which number is white",
                where=where,
                got=dtype,
                expected="display/PEAK",
                remedy="e.g. --radiometry display/255",
            )
        scale = 1.0 / (peak or float(np.iinfo(np.dtype(dtype)).max))
        notice = (
            None
            if kind
            else f"{where.rpartition('/')[2]}: uint8 without a scale is taken as a display picture (sRGB, "
            "one scene-wide gain); its spectra are relative. State --radiometry to choose otherwise"
        )
        return Radiometry("display", none, (scale,) * count, numbers[0] if numbers else None), notice
    if is_float:
        return Radiometry("reflectance", none, (1.0,) * count), None
    raise SceneError(
        "the file does not say what its numbers mean",
        where=where,
        got=f"{dtype} without a scale",
        expected="a declared radiometry",
        remedy="use --radiometry dn:OFFSET,SCALE for reflectance = (DN − OFFSET)·SCALE, "
        "e.g. dn:0,0.0001, or --radiometry display for a picture made for the eye",
    )


def display_gain(numbers: NDArray[np.generic], valid: NDArray[np.bool_], radiometry: Radiometry) -> float:
    """The scene-wide gain from a sample of stored numbers, (3, h, w), where (h, w) bool ``valid``.

    It is rounded to six digits, so that it is the same when read from the cube's attributes.
    """
    return common_gain([(numbers, valid, radiometry)])


def common_gain(
    samples: Sequence[tuple[NDArray[np.generic], NDArray[np.bool_], Radiometry]],
) -> float:
    """One gain for several display pictures; each sample is as in ``display_gain``."""
    luminance = []
    for numbers, valid, radiometry in samples:
        ungained = Radiometry("display", radiometry.offset, radiometry.scale, gain=1.0)
        luminance.append(_LUMINANCE @ ungained.to_reflectance(numbers[:, valid]).astype(np.float64))
    bright = float(np.percentile(np.concatenate(luminance), DISPLAY_PERCENTILE))
    # The exposure of a nearly black picture cannot be measured; keep it dark.
    return round(DISPLAY_TARGET / bright, 6) if bright > 1e-3 else 1.0
