"""Colour for the eye: which bands make a picture, sRGB, and which reflectance it shows as white. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectile.catalog.bands import RGB_CAMERA, Bands, resampling_matrix
from spectile.catalog.errors import UsageError

COLOUR_INFRARED_NM = (860.0, 650.0, 550.0)
"""The wavelengths that are red, green and blue in a picture that shows plants red."""
VISIBLE_NM = (380.0, 740.0)
"""The light that the eye sees."""
LEAST_WEIGHT = 0.01
"""Bands that weigh less than this share of a channel's heaviest one are left out, so that they are not read.
Of a camera's broad channels that cuts the tails: of 48 bands from 380 to 1050 nm 24 are read."""

Limits = tuple[float, float]
"""What the darkest and the brightest of a picture stand for."""


@dataclass(frozen=True)
class Composite:
    """How three channels are made of a cube's bands."""

    bands: tuple[int, ...]
    """The N bands that are read, ascending."""
    weights: tuple[tuple[float, ...], ...]
    """What each weighs in red, green and blue, (3, N); the weights of a channel sum to one."""
    covered: bool
    """Whether the cube has the bands that the channels ask for; else the nearest ones stand in."""

    @classmethod
    def of_matrix(cls, matrix: ArrayLike, *, covered: bool) -> Composite:
        """The composite of weights (3, B) that are not negative, without those below ``LEAST_WEIGHT``."""
        weights = np.array(matrix, dtype=np.float64)
        weights[weights < LEAST_WEIGHT * weights.max(axis=1, keepdims=True)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        used = np.flatnonzero(weights.any(axis=0))
        rows = (tuple(row) for row in weights[:, used].tolist())
        return cls(tuple(used.tolist()), tuple(rows), covered)

    @property
    def heaviest(self) -> tuple[int, ...]:
        """The band that weighs most in red, in green and in blue."""
        return tuple(self.bands[int(np.argmax(row))] for row in self.weights)

    def of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(3, …) float32 reflectance of red, green and blue, of the N bands' (N, …); NaN where a band is."""
        channels: NDArray[np.float32] = np.zeros((3, *values.shape[1:]), dtype=np.float32)
        # Band by band: the order of a sum in BLAS hangs on the size of what is read at once.
        for channel, row in enumerate(self.weights):
            for weight, band in zip(row, values, strict=True):
                if weight:
                    channels[channel] += np.float32(weight) * band
        return channels


def true_colour(bands: Bands, response: Bands = RGB_CAMERA) -> Composite:
    """True colour: the cube as a camera sees it, so that it looks like the scene that it was made from.

    Single bands would not: a camera's channels are broad, and what it shows as grey is not equal at three
    wavelengths.

    Parameters
    ----------
    response : of the scene's channels. Where they are not red, green and blue, those of ``RGB_CAMERA``.
    """
    camera = response if _is_colour_camera(response) else RGB_CAMERA
    matrix, _ = resampling_matrix(bands, camera)
    missing = np.flatnonzero(matrix.sum(axis=1) <= 0)
    matrix[missing, [bands.nearest(camera.centre_nm[row]) for row in missing]] = 1.0
    return Composite.of_matrix(matrix, covered=not missing.size)


def _is_colour_camera(response: Bands) -> bool:
    low, high = VISIBLE_NM
    centre = response.centre_nm
    return len(centre) == 3 and low <= centre[2] < centre[1] < centre[0] <= high


def colour_infrared(bands: Bands) -> Composite:
    """Colour infrared: the bands nearest to ``COLOUR_INFRARED_NM``."""
    nearest = [bands.nearest(nm) for nm in COLOUR_INFRARED_NM]
    try:
        covered = nearest == [bands.at(nm) for nm in COLOUR_INFRARED_NM]
    except UsageError:
        covered = False
    return Composite.of_matrix(np.eye(len(bands))[nearest], covered=covered)


def srgb_to_linear(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1), float32."""
    return np.where(
        values <= 0.04045, values / 12.92, np.power((np.maximum(values, 0) + 0.055) / 1.055, 2.4)
    ).astype(np.float32)


def linear_to_srgb(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """SRGB values in [0, 1] of linear light, clipped to [0, 1] (IEC 61966-2-1), float32."""
    light = np.clip(values, 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055).astype(
        np.float32
    )


AT_ONCE = 65536
"""Values that become bytes together: they stay in the processor's cache."""


def srgb_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SRGB bytes of linear light, uint8."""
    light = values.reshape(-1)
    picture = np.empty(light.shape, dtype=np.uint8)
    for start in range(0, light.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        picture[part] = np.rint(linear_to_srgb(light[part]) * 255)
    return picture.reshape(values.shape)


def picture_gain(known: NDArray[np.floating[Any]]) -> float:
    """The factor on reflectance with which a picture shows it as linear light: one for all of its channels.

    Black stays black, so that a picture tells what haze there is, and colours stay true. The brightest
    hundredth of what is known is at 0.9 or above.
    """
    top = float(np.percentile(known, 99)) if known.size else 1.0
    return 0.9 / max(top, 1e-3)


def stretch(values: NDArray[np.float32], *, low: float = 2.0, high: float = 98.0) -> Limits | None:
    """The percentiles of what is known, over all channels alike; None where nothing is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    bottom, top = np.percentile(known, (low, high))
    return float(bottom), float(max(top, bottom + 1e-4))
