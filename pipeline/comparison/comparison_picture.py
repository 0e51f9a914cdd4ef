"""A comparison as a picture: spectra, errors by band, and a map of spectral angles."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from spectile.pipeline.comparison.comparison import Comparison

MOST_POINTS = 6
"""Spectra of the field that are drawn, at most."""


def draw_comparison(found: Comparison) -> bytes:
    """The picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mapped = bool(np.isfinite(found.angle_map).any())
    figure = Figure(figsize=(15 if mapped else 10, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplot_mosaic([["spectra", "map"], ["errors", "map"]] if mapped
                                      else [["spectra"], ["errors"]])  # fmt: skip
    _draw_spectra(axes["spectra"], found)
    _draw_errors(axes["errors"], found)
    if mapped:
        _draw_map(figure, axes["map"], found)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw_spectra(axes: Any, found: Comparison) -> None:
    nm = found.bands.centre_nm
    pairs = [(point.name, point.cube, point.reference) for point in found.points[:MOST_POINTS]]
    for name, cube, reference in pairs or [("mean", found.mean_cube, found.mean_reference)]:
        (line,) = axes.plot(nm, reference, linewidth=1.8, label=f"{name}, reference")
        axes.plot(nm, cube, "--", linewidth=1.8, color=line.get_color(), label=f"{name}, cube")
    axes.set_ylabel("reflectance")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{found.pixels} {'spectra' if found.points else 'pixels'} compared", fontsize=11)
    _finish(axes)


def _draw_errors(axes: Any, found: Comparison) -> None:
    nm = found.bands.centre_nm
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.plot(nm, found.rmse_by_band, linewidth=1.8, label="RMSE")
    axes.plot(nm, found.bias_by_band, linewidth=1.8, label="bias, cube − reference")
    if found.intervals is not None:
        axes.plot(nm, found.intervals.width_by_band, ":", linewidth=1.8, label="width of q05–q95")
    axes.set_xlabel("wavelength (nm)")
    axes.set_ylabel("reflectance")
    axes.set_title(f"RMSE {found.rmse:.4f}, bias {found.bias:+.4f}", fontsize=11)
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def _draw_map(figure: Any, axes: Any, found: Comparison) -> None:
    top = float(np.nanpercentile(found.angle_map, 98)) or 1.0
    shown = axes.imshow(found.angle_map, vmin=0, vmax=top, cmap="viridis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="spectral angle (rad)", shrink=0.8)
    axes.set_title(f"spectral angle, mean {found.angle:.4f} rad without dark pixels", fontsize=11)
    axes.set_axis_off()
