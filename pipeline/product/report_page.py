"""The page of a report: its figures, drawn by matplotlib, and the HTML that holds all of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from spectile.catalog.colour import linear_to_srgb, stretch
from spectile.catalog.sizes import width_by_height
from spectile.pipeline.plan.layers import array_name
from spectile.pipeline.plan.quality_layers import FLAGS
from spectile.pipeline.product.report_facts import LIMITS, Report, shown
from spectile.pipeline.product.report_measures import Array, Point, flat
from spectile.pipeline.product.report_pair import LIMITS_OF_PAIRS
from spectile.pipeline.product.view import Subject

if TYPE_CHECKING:
    import jinja2

COLOURS = ("#d1495b", "#00798c", "#edae49", "#6a4c93", "#3c7d2b", "#7f4f24")
"""Of the points, on maps and spectra; told apart with most kinds of colour blindness."""
_WIDE = 8.0
"""Inches that a map's longer side takes, at 100 pixels each."""


@dataclass(frozen=True)
class Figure:
    """A picture with what is said of it."""

    title: str
    """What it shows."""
    caption: str
    """With units."""
    source: str
    """It, as a URL with all of its data."""


def render(report: Report) -> bytes:
    """The report as one HTML file that asks for no other: no script, no font, no picture from elsewhere."""
    import matplotlib

    # Text stays text; names in the picture are the same whenever it is drawn.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spectile", "font.size": 9}):
        page = _template().render(
            report=report,
            limits=LIMITS if report.pair is None else LIMITS_OF_PAIRS,
            name=shown(report.name),
            maps=list(_maps(report)),
            spectra=[_spectrum(report, number, point) for number, point in enumerate(report.points)],
            colours=COLOURS,
            bands=list(
                zip(
                    report.view.bands.centre_nm, report.view.bands.fwhm_nm, report.statistics.mean,
                    report.statistics.sd, report.statistics.low, report.statistics.high, strict=True,
                )
            ),
            statistics=_statistics(report),
            agreement=_agreement(report),
            seams=_seams(report),
            timing=_timing(report),
        )  # fmt: skip
    return page.encode()


@cache
def _template() -> jinja2.Template:
    import jinja2

    text = (files("spectile.pipeline.product") / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def _canvas(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of these inches, and its axes with room for labels."""
    figure = _canvas(width, height)
    left, bottom, right, top = 0.62 / width, 0.48 / height, 1 - 0.15 / width, 1 - 0.12 / height
    axes = figure.add_axes((left, bottom, right - left, top - bottom))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"


def _webp(figure: Any) -> str:
    # Maps are as noisy as photographs: as PNG they would take five times as much.
    file = BytesIO()
    figure.savefig(file, format="webp", pil_kwargs={"quality": 82})
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"


def _maps(report: Report) -> Iterator[Figure]:
    view = report.view
    yield _colour_map(report, view.pictures["true"], "as the scene's camera sees the cube")
    infrared = view.pictures["infrared"]
    centres = ", ".join(f"{view.bands.centre_nm[band]:.0f}" for band in infrared.marked)
    yield _colour_map(report, infrared, f"red, green and blue are {centres} nm")
    if "sd" in view.layers:
        values = view.read(Subject("", array_name("sd"), (view.bands.nearest(860.0),)), report.level)[0]
        nm = view.bands.centre_nm[view.bands.nearest(860.0)]
        yield _scalar_map(report, "Uncertainty", f"standard deviation at {nm:.0f} nm, reflectance", values)
    if report.agreement is not None:
        values = flat(view, report.level, "rgb_consistency")
        unit = "root mean square over the scene's channels, reflectance"
        yield _scalar_map(report, "Difference from the scene's colours", unit, values)
    if "hsi_consistency" in view.arrays:
        values = flat(view, report.level, "hsi_consistency")
        unit = "the cube, blurred and averaged, less the HSI; root mean square over bands, reflectance"
        yield _scalar_map(report, "Difference from the hyperspectral scene", unit, values)
    if "overlap_disagreement" in view.arrays:
        values = flat(view, report.level, "overlap_disagreement")
        unit = "root mean square over bands and samples, reflectance; none where one tile stands alone"
        yield _scalar_map(report, "Difference of overlapping tiles", unit, values)
    if report.flags:
        yield _flag_map(report)
    if "source" in view.arrays:
        yield _source_map(report)


def _frame(report: Report, *, bar: bool = False) -> tuple[Any, Any]:
    """A figure as large as a map, with its axes; with room for a colour bar below."""
    rows, cols = report.level.grid.shape
    scale = _WIDE / max(rows, cols)
    # A sliver would leave no room for a point's number.
    width, height = max(cols * scale, 2.5), max(rows * scale, 1.0)
    below = 0.55 if bar else 0.0
    figure = _canvas(width, height + below)
    axes = figure.add_axes((0, below / (height + below), 1, height / (height + below)))
    axes.set_axis_off()
    return figure, axes


def _mark(report: Report, axes: Any) -> None:
    from matplotlib import patheffects

    factor = report.level.factor
    edge = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    for number, point in enumerate(report.points):
        at = (point.col + 0.5) / factor - 0.5, (point.row + 0.5) / factor - 0.5
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(*at, "o", markersize=9, markerfacecolor=colour, markeredgecolor="white")
        axes.annotate(
            str(number + 1), at, xytext=(7, 5), textcoords="offset points", color="white", fontsize=12,
            fontweight="bold", path_effects=edge, annotation_clip=False,
        )  # fmt: skip


def _colour_map(report: Report, subject: Subject, channels: str) -> Figure:
    values = report.view.read(subject, report.level)
    figure, axes = _frame(report)
    known = np.isfinite(values).all(axis=0)
    white = subject.white_of(values)
    picture = linear_to_srgb(np.nan_to_num(values) / np.float32(white)).transpose(1, 2, 0)
    axes.imshow(np.dstack([picture, known.astype(np.float32)]), interpolation="antialiased")
    _mark(report, axes)
    as_scene = ", as in the scene" if subject.white else ""
    note = f"; {subject.note}" if subject.note else ""
    caption = f"{channels}; white is a reflectance of {white:.2f}{as_scene}{note}"
    return Figure(subject.title, caption, _webp(figure))


def _scalar_map(report: Report, title: str, unit: str, values: Array) -> Figure:
    figure, axes = _frame(report, bar=True)
    low, high = stretch(values) or (0.0, 1.0)
    shown_values = np.ma.masked_invalid(values)
    drawn = axes.imshow(shown_values, vmin=low, vmax=high, cmap="viridis", interpolation="antialiased")
    height = figure.get_size_inches()[1]
    bar = figure.add_axes((0.1, 0.36 / height, 0.8, 0.14 / height))
    figure.colorbar(drawn, cax=bar, orientation="horizontal", extend="both")
    bar.tick_params(labelsize=9)
    _mark(report, axes)
    return Figure(title, f"{unit}; colours from the 2 % to the 98 % quantile", _webp(figure))


def _flag_map(report: Report) -> Figure:
    values = flat(report.view, report.level, "quality").astype(np.int64)
    # Each pixel has the colour of its gravest flag, which are in the order of their bits.
    gravest = np.zeros(values.shape, dtype=np.intp)
    for place, bit in enumerate(FLAGS.values(), 1):
        gravest[values & bit > 0] = place
    names = ["none", *(name.replace("_", " ") for name in report.flags)]
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in report.flags.items())
    return _class_map(
        report, "Quality", f"flags, and the share of pixels that have them: {shares}", gravest, names
    )


def _source_map(report: Report) -> Figure:
    values = flat(report.view, report.level, "source").astype(np.intp)
    scenes = report.view.group["source"].attrs.get("scenes", [])
    names = ["none", *(shown(name) for name in scenes)]
    return _class_map(report, "Source", "the scene that weighs most in each pixel", values, names)


def _class_map(report: Report, title: str, caption: str, values: Any, names: list[str]) -> Figure:
    from matplotlib import colormaps

    figure, axes = _frame(report)
    palette = np.vstack([[0.9, 0.9, 0.9], colormaps["tab20"](np.arange(20) % 20)[:, :3]])
    index = np.where(values == 0, 0, (values - 1) % 20 + 1)
    axes.imshow(palette[index], interpolation="nearest")
    there = [number for number in np.unique(values).tolist() if number < len(names)][:12]
    handles = [
        axes.plot([], [], "s", markersize=8, color=palette[0 if not n else (n - 1) % 20 + 1], label=names[n])[
            0
        ]
        for n in there
    ]
    legend = axes.legend(handles=handles, loc="lower left", fontsize=9, framealpha=0.9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of scenes are no formulas
    _mark(report, axes)
    return Figure(title, caption, _webp(figure))


def _spectrum(report: Report, number: int, point: Point) -> Figure:
    figure, axes = _axes(4.4, 2.7)
    colour, spectrum = COLOURS[number % len(COLOURS)], point.spectrum
    centre = report.view.bands.centre_nm
    interval = "no uncertainty in this cube"
    if spectrum.interval is not None:
        low, high = spectrum.interval
        axes.fill_between(centre, low, high, color=colour, alpha=0.25, linewidth=0)
        quantiles = {"q05", "q95"} <= spectrum.layers.keys()
        interval = "band: 5 % to 95 % quantile" if quantiles else "band: one standard deviation on each side"
    axes.plot(centre, spectrum.reflectance, color=colour, linewidth=1.6)
    tops = [other.spectrum.interval[1] if other.spectrum.interval else other.spectrum.reflectance
            for other in report.points]  # fmt: skip
    axes.set_ylim(0, 1.05 * max(float(np.nanmax(top)) for top in tops) or 1.0)
    axes.set(xlabel="wavelength (nm)", ylabel="estimated reflectance")
    x, y, lon, lat = point.place
    geographic = f", {lat:.5f}° {lon:.5f}°" if np.isfinite(lon) else ""
    where = f"row {point.row}, column {point.col}; x {x:.10g}, y {y:.10g}{geographic}; {interval}"
    return Figure(f"Point {number + 1}", where, _svg(figure))


def _statistics(report: Report) -> Figure:
    figure, axes = _axes(9.0, 3.2)
    centre, statistics = report.view.bands.centre_nm, report.statistics
    mean, sd = statistics.mean, statistics.sd
    axes.fill_between(
        centre, statistics.low, statistics.high, color="#c9d6df", linewidth=0, label="smallest to largest"
    )
    axes.fill_between(
        centre, np.maximum(mean - sd, 0), mean + sd, color="#7aa6c2", linewidth=0,
        label="mean ± standard deviation",
    )  # fmt: skip
    axes.plot(centre, mean, color="#12355b", linewidth=1.8, label="mean")
    axes.set(xlabel="wavelength (nm)", ylabel="estimated reflectance")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper left")
    pixels = f"{statistics.pixels:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return Figure("Bands", f"reflectance over {pixels} px, all valid pixels", _svg(figure))


def _agreement(report: Report) -> Figure | None:
    if report.agreement is None:
        return None
    figure, axes = _axes(4.4, 2.7)
    values = report.agreement.values
    median, high, highest = report.agreement.quantiles
    share = np.full(values.size, 100 / values.size)
    axes.hist(values, bins=np.linspace(0, max(highest, 1e-4), 41), weights=share, color="#00798c")
    axes.set(xlabel="difference from the scene's colours (reflectance)", ylabel="pixels of the map (%)")
    caption = f"median {median:.4f}, 95 % of pixels below {high:.4f}, 99 % below {highest:.4f} reflectance"
    return Figure("Agreement with the scene's colours", caption, _svg(figure))


def _seams(report: Report) -> Figure | None:
    seams = report.seams
    if seams is None:
        return None
    figure, axes = _axes(4.4, 2.7)
    axes.axvspan(0, seams.strip, color="#edae49", alpha=0.3, linewidth=0, label="near a border")
    axes.plot(seams.distance, seams.sd, color="#12355b", linewidth=1.4)
    axes.set(xlabel="distance to the border of a tile (px)", ylabel="texture, sd (reflectance)")
    axes.set_ylim(0, 1.1 * float(seams.sd.max()) or 1.0)
    axes.set_xlim(0)
    axes.legend(fontsize=8, loc="lower right")
    caption = (
        f"sd near borders of tiles ÷ elsewhere: {seams.sd_ratio:.3f}, in {width_by_height(seams.shape)} in "
        "the middle, of what the bands hold beyond a linear map of three colours. Where no tile shows: "
        "flat, about 1"
    )
    return Figure("Seams", caption, _svg(figure))


def _timing(report: Report) -> Figure | None:
    seconds = report.timing.seconds
    if len(seconds) < 2:
        return None
    figure, axes = _axes(4.4, 2.7)
    axes.hist(seconds, bins=min(40, max(5, len(seconds) // 4)), color="#6a4c93")
    axes.set(xlabel="seconds a block", ylabel="blocks")
    axes.set_xlim(0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    caption = f"median {np.median(seconds):.3g} s, from {min(seconds):.3g} to {max(seconds):.3g} s"
    return Figure("Time of a block", caption, _svg(figure))
