"""Pictures and lines of a training run: the curves of its log, and samples of what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.colour import colour_infrared, linear_to_srgb, picture_gain, true_colour
from spectile.catalog.files import replacing
from spectile.flows.console.console import duration

Floats = NDArray[np.float32]
NOT_DRAWN = ("step", "of", "seconds_a_step")


def record_line(record: Mapping[str, Any]) -> str:
    """A record of the training log as a line for the terminal."""
    values = ", ".join(f"{key} {value:g}" for key, value in record.items() if key not in NOT_DRAWN)
    if "of" not in record:
        return f"step {record['step']} validated: {values}"
    left = duration((record["of"] - record["step"]) * record["seconds_a_step"])
    return f"step {record['step']} of {record['of']}: {values}, {left} left"


def table_rows(table: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The held-out table with a row for each predictor of each group."""
    return [
        {"scenes": group, "predictor": name, **scores}
        for group, row in table.items()
        for name, scores in row.items()
        if isinstance(scores, Mapping) and "rmse" in scores
    ]


def draw_curves(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG of a training log: losses above, what validation measured below, against the step."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, label, lines in (
        (above, "training loss", [record for record in records if "of" in record]),
        (below, "validation", [record for record in records if "of" not in record]),
    ):
        names = dict.fromkeys(name for line in lines for name in line if name not in NOT_DRAWN)
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(ylabel=label)
        if names:
            axes.legend()
        axes.grid(alpha=0.3)
    below.set(xlabel="step")
    _save(figure, path)


def draw_samples(
    path: Path,
    *,
    bands: Bands,
    response: Bands,
    rgb: Floats,
    truth: Floats,
    known: NDArray[np.bool_],
    sample: Floats,
    mean: Floats,
    title: str,
) -> None:
    """Write a PNG with a row for each crop: input, truth, one sample, the mean, and two spectra.

    Parameters
    ----------
    path : of the picture.
    bands : B bands.
    response : the camera's.
    rgb : (N, 3, h, w) reflectance, the input.
    truth, sample, mean : (N, B, h, w) reflectance.
    known : (N, B) False where the truth lacks the band.
    title : of the picture.
    """
    nm = np.asarray(bands.centre_nm)
    infrared = colour_infrared(bands)
    # True colour would show the input again; infrared shows what the model adds to it.
    shown, kind = (
        (infrared, "colour infrared") if infrared.covered else (true_colour(bands, response), "true colour")
    )
    figure = Figure(figsize=(15, 3 * len(rgb) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}; {kind}")
    rows = figure.subplots(len(rgb), 6, squeeze=False)
    for row, axes in enumerate(rows):
        colours = [shown.of(cubes[row, list(shown.bands)]) for cubes in (truth, sample, mean)]
        gain = np.float32(picture_gain(colours[0]))
        _picture(axes[0], rgb[row] * np.float32(picture_gain(rgb[row])), "input" if row == 0 else "")
        for panel, colour, name in zip(axes[1:4], colours, ("truth", "one sample", "mean"), strict=True):
            _picture(panel, colour * gain, name if row == 0 else "")
        brightness = rgb[row].mean(axis=0)
        order = np.argsort(brightness, axis=None)
        for panel, share in zip(axes[4:], (0.2, 0.8), strict=True):
            y, x = divmod(int(order[int(share * (order.size - 1))]), brightness.shape[1])
            seen = np.where(known[row], truth[row, :, y, x], np.nan)
            panel.plot(nm, seen, "k", label="truth")
            panel.plot(nm, sample[row, :, y, x], lw=1, label="one sample")
            panel.plot(nm, mean[row, :, y, x], lw=1, label="mean")
            panel.set(title=f"row {y}, column {x}", xlabel="nm")
    rows[0, 4].legend(fontsize=7)
    _save(figure, path)


def _picture(axes: Axes, colour: Floats, title: str) -> None:
    axes.imshow(np.moveaxis(linear_to_srgb(colour), 0, -1))
    axes.set(title=title, xticks=[], yticks=[])


def _save(figure: Figure, path: Path) -> None:
    """Replace the picture at once: someone may be looking at it."""
    with replacing(path) as part:
        figure.savefig(part, dpi=80, format="png")
