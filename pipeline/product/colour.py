"""Colour pictures of a cube: the camera that it was made for, its scene's white, and how bands are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, Bands
from spectile.catalog.colour import Composite
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.plan.plan import CHUNK, Plan

ONE_SAMPLE = "one sample: blotched where the model is not sure"
"""What is said of a picture that shows more than true colour, whose bands the scene's colours decide."""
ReadCounts = Callable[[tuple[int, ...], tuple[slice, slice]], NDArray[Any]]
"""(bands, where) → their stored counts (N, h, w)."""


def response_of(settings: Mapping[str, Any]) -> Bands:
    """The bands of the scene's channels, by a plan's ``settings``; of one that does not say, RGB_CAMERA's."""
    stored = settings.get("response")
    return RGB_CAMERA if stored is None else Bands.from_json(stored)


def scene_white(plan: Plan) -> float | None:
    """The reflectance that white of the scene stands for; None where it is no display picture.

    The run took such a picture's sRGB off and multiplied by this gain. Dividing by it gives the picture back.
    Scenes of a flight line with gains of their own have no common white.
    """
    facts: list[Mapping[str, Any]] = [share.facts for share in plan.scenes] or [plan.settings]
    stated = [each.get("radiometry") for each in facts]
    gains = {each.get("gain") if isinstance(each, Mapping) else None for each in stated}
    gain = gains.pop() if len(gains) == 1 else None
    return float(gain) if isinstance(gain, float) else None


def is_one_sample(plan: Plan) -> bool:
    """Whether the cube is a single draw of the model, no mean."""
    model = plan.settings.get("model")
    return plan.samples == 1 and isinstance(model, Mapping) and model.get("estimate") == "sample"


def read_composite(read: ReadCounts, composite: Composite, at: tuple[slice, slice]) -> NDArray[np.float32]:
    """(3, h, w) float32 reflectance of red, green and blue there, NaN where there is none.

    A row of chunks at a time: a camera's response takes dozens of bands, of which only three channels stay.
    They lie side by side in chunks, so that with 48 bands no more chunks are read than for three single
    bands, in 1.3 times the processor time; of 425 bands 63 are read, in 3 times of it.
    """
    rows, cols = at
    starts = [rows.start, *range(rows.start + CHUNK - rows.start % CHUNK, rows.stop, CHUNK)]
    strips = [
        composite.of(decode(read(composite.bands, (slice(start, stop), cols))))
        for start, stop in zip(starts, [*starts[1:], rows.stop], strict=True)
    ]
    channels: NDArray[np.float32] = np.concatenate(strips, axis=1)
    return channels
