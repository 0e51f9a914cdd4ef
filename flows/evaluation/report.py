"""One picture of an evaluation: error by band, where the errors are, and spectra with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAPS = 4
SPECTRA = 3


def draw_report(
    path: Path, report: Mapping[str, Any], truth: Floats, pictures: Mapping[str, Mapping[str, Floats]]
) -> None:
    """Write a PNG of the first test image under the first seed.

    Parameters
    ----------
    path : of the picture.
    report : what ``evaluate_counts`` gave.
    truth : (B, h, w) counts of the first test image.
    pictures : of each model, ``estimate`` (B, h, w), and ``low``, ``high`` where it draws samples.
    """
    ranked = sorted(pictures, key=lambda name: report["models"][name]["mean"]["rmse"])
    samplers = [name for name in ranked if "low" in pictures[name]]
    shown = [name for name in ranked if name not in samplers][: MAPS - len(samplers[:1])] + samplers[:1]
    figure = Figure(figsize=(14, 11), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 1)
    top, middle, bottom = (figure.add_subfigure(grid[row, 0]) for row in range(3))
    bands = np.arange(1, len(truth) + 1)
    axes = top.subplots()
    for index, name in enumerate(ranked):
        style = ("-", "--", ":")[index // 10 % 3]
        axes.plot(bands, report["models"][name]["rmse_by_band"], style, label=name)
    for number in report["rgb_bands"]:
        axes.axvline(number, color="0.8", zorder=0)
    axes.set(yscale="log", xlabel="band (grey: input)", ylabel="RMSE, counts", title=report["protocol"])
    axes.legend(fontsize=7, ncols=2)
    errors = {name: np.sqrt(np.mean((pictures[name]["estimate"] - truth) ** 2, axis=0)) for name in shown}
    limit = max(float(np.quantile(error, 0.98)) for error in errors.values())
    for axes, name in zip(np.ravel(middle.subplots(1, len(shown))), shown, strict=True):
        image = axes.imshow(errors[name], vmin=0.0, vmax=limit, cmap="magma")
        axes.set(title=f"{name}: error over bands", xticks=[], yticks=[])
    middle.colorbar(image, ax=middle.axes, label="counts", shrink=0.8)
    for axes, (row, col) in zip(np.ravel(bottom.subplots(1, SPECTRA)), _places(truth), strict=True):
        axes.plot(bands, truth[:, row, col], "k", label="truth")
        for name in shown:
            picture = pictures[name]
            (line,) = axes.plot(bands, picture["estimate"][:, row, col], lw=1, label=name)
            if "low" in picture:
                low, high = picture["low"][:, row, col], picture["high"][:, row, col]
                axes.fill_between(bands, low, high, color=line.get_color(), alpha=0.3, label="5 to 95 %")
        axes.set(xlabel="band", ylabel="counts", title=f"row {row}, column {col}")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=90)


def _places(truth: Floats) -> list[tuple[int, int]]:
    """Pixels of low, middle and high brightness."""
    brightness = truth.mean(axis=0)
    order = np.argsort(brightness, axis=None)
    picks = [order[int(share * (order.size - 1))] for share in (0.1, 0.5, 0.9)]
    return [divmod(int(pick), brightness.shape[1]) for pick in picks]
