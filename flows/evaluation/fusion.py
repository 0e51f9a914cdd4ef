"""Methods of fusion measured by a protocol on the user's own data: rows, their means, and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import SceneError, UsageError
from spectile.flows.evaluation.fusion_data import Scenes, read_scenes
from spectile.flows.evaluation.fusion_protocols import (
    FUSION_PROTOCOLS,
    FusionProtocol,
    Values,
    cut_halves,
)
from spectile.model.fusion.predictor import method_names
from spectile.model.fusion.scored import Degradation, KnownPair, score_methods
from spectile.pipeline.scene.bands import find_sensor
from spectile.pipeline.spectra.hyperspectral import read_bands

Floats = NDArray[np.float64]

WALD = "wald"
NAMES = (WALD, *FUSION_PROTOCOLS)
RATIO, FWHM, SNR_DB = 8, 1.0, (20.0, 30.0)
"""Of ``wald`` where nothing else is asked: those of SDP's tables."""
MOST_CLEAN = 1 << 16
"""Clean spectra at most; 256² are those of SDP's tables."""
WITHOUT, WITH, TRAINED = "without", "with", "its training"
"""Whether a row knew clean spectra (TGT)."""


def evaluate_fusion(
    name: str,
    data: Path | None,
    *,
    models: Sequence[str] = (),
    seeds: int = 3,
    samples: int = 16,
    sensor: str | None = None,
    wavelengths: Path | None = None,
    ratio: int | None = None,
    fwhm: float | None = None,
    snr_db: tuple[float, float] | None = None,
    device: str = "auto",
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The report of every closed form, and of trained networks, on a data set under a protocol's rules.

    Parameters
    ----------
    name : one of ``NAMES``.
    data : the scene's file; for CAVE the folder of its scenes.
    models : folders of trained SDP or HSR-Diff networks.
    seeds : of the noise; a protocol without noise has one.
    samples : for the cover of the intervals.
    sensor : the sharp sensor, as of ``find_sensor``; the protocol's if None.
    wavelengths : a table or a file that states the bands, as of ``read_bands``.
    ratio, fwhm, snr_db : of ``wald`` alone; the width of the PSF is in coarse pixels.
    device : where it is computed.

    Raises
    ------
    SpectileError : the data are not the protocol's, or a model or an option cannot be used.
    """
    if data is None:
        raise UsageError(f"the protocol {name} needs its data", remedy="name them with --data")
    if strange := [model for model in models if not Path(model).is_dir()]:
        raise UsageError("no folder of a trained SDP or HSR-Diff", got=strange[0])
    protocol = _protocol(name, ratio, fwhm, snr_db)
    how = protocol.how
    scenes = read_scenes(protocol, data, wavelengths)
    parts = protocol.cut(scenes.cubes)
    bands = _bands(protocol, scenes, wavelengths, data.name)
    lit = _lit(protocol, [*parts.training, *parts.tests])
    bands = bands.subset(lit)
    top = (
        1.0 if scenes.reflectance else max(float(part[lit].max()) for part in (*parts.training, *parts.tests))
    )
    clean = _spectra(parts.training, lit, top)
    seen = find_sensor(sensor or protocol.sensor)
    response, covered = resampling_matrix(bands, seen.bands)
    if not covered.any():
        raise UsageError(
            "the data's bands cover none of the sensor's", got=str(bands), expected=str(seen.bands)
        )
    msi_bands = seen.bands.subset(np.flatnonzero(covered))
    rows: list[dict[str, Any]] = []
    for seed in range(seeds if how.snr_db else 1):
        for number, test in enumerate(parts.tests):
            announce(f"{name}, seed {seed}, test {number + 1} of {len(parts.tests)}")
            truth = _scaled(test[lit], top)
            known = KnownPair.of(truth, bands, msi_bands, response[covered], how, seed=seed)
            score = partial(score_methods, known, samples=samples, seed=seed, device=device)
            for tgt, spectra, methods in (
                (WITHOUT, None, [*method_names(), *models]), (WITH, clean, method_names()),
            ):  # fmt: skip
                for row in score(methods, clean=spectra):
                    rows.append({"tgt": TRAINED if row["method"] in models else tgt, **row})
    return {
        "protocol": name, "data": protocol.data, "split": protocol.split,
        "remarks": _remarks(protocol, parts.whole),
        "ratio": how.ratio, "psf_sigma_fine_px": how.psf_sigma, "psf_taps": how.psf_size,
        "psf_centre_fine_px": (how.ratio - 1) / 2 if how.psf_phase is None else how.psf_phase,
        "border": how.border, "snr_db": how.snr_db and list(how.snr_db),
        "bands": str(bands), "msi": str(msi_bands), "scale": top,
        "tests": [list(one.shape) for one in parts.tests],
        "clean_spectra": clean.shape[1], "seeds": seeds if how.snr_db else 1,
        "sources": dict(protocol.sources),
        "paper_of": protocol.paper_of, "paper_band_peaks": protocol.band_peaks,
        "paper": [
            {"where": one.where, "tgt": WITH if one.tgt else WITHOUT, **one.scores} for one in protocol.paper
        ],
        "methods": _means(rows), "rows": rows,
    }  # fmt: skip


def _protocol(
    name: str, ratio: int | None, fwhm: float | None, snr_db: tuple[float, float] | None
) -> FusionProtocol:
    if name != WALD:
        if (ratio, fwhm, snr_db) != (None, None, None):
            raise UsageError(
                f"{name} has its own ratio, PSF and noise",
                got="--ratio, --fwhm or --snr",
                remedy="use --protocol wald",
            )
        return FUSION_PROTOCOLS[name]
    times, noise = ratio or RATIO, snr_db or SNR_DB
    width = FWHM if fwhm is None else fwhm
    if not 2 <= times <= 64 or not 0.2 <= width <= 4.0:
        raise UsageError(
            "the degradation cannot be used", got=f"ratio {times}, width {width:g}",
            expected="a ratio of 2 to 64, and a width of 0.2 to 4 coarse pixels",
        )  # fmt: skip
    return FusionProtocol(
        name=WALD, data="any hyperspectral scene", how=Degradation.of_width(times, width, noise),
        sensor="ikonos",
        split="the right half is tested, the left half is TGT", cut=partial(cut_halves, ratio=times),
    )  # fmt: skip


def _bands(protocol: FusionProtocol, scenes: Scenes, wavelengths: Path | None, where: str) -> Bands:
    """The bands as given, as stated, or the data set's nominal ones."""
    count = len(scenes.cubes[0])
    found = (
        read_bands(wavelengths) if wavelengths is not None else scenes.bands or protocol.of_bands.get(count)
    )
    if found is None:
        raise SceneError(
            "the file does not say its wavelengths", where=where, got=f"{count} bands",
            remedy="give them with --wavelengths FILE.csv (columns wavelength and fwhm, in nm)",
        )  # fmt: skip
    if len(found) != count:
        raise SceneError("wavelengths and bands do not match", where=where, got=len(found), expected=count)
    return found


def _lit(protocol: FusionProtocol, parts: Sequence[Values]) -> NDArray[np.intp]:
    """Positions of the bands that take part: not those left out, nor those without light in some part."""
    count = len(parts[0])
    left = protocol.ends.get(count, 0)
    lit = np.all([part.reshape(count, -1).max(axis=1) > 0 for part in parts], axis=0)
    kept = np.flatnonzero(lit & (np.arange(count) >= left) & (np.arange(count) < count - left))
    if len(kept) < 2:
        raise SceneError("hardly a band has any light in it", got=f"{len(kept)} of {count}")
    return kept


def _scaled(values: Values, top: float) -> Floats:
    """float64, over the largest value of the data; noise below zero is cut."""
    return np.clip(values.astype(np.float64) / top, 0.0, None)


def _spectra(training: Sequence[Values], lit: NDArray[np.intp], top: float) -> Floats:
    """(B, n) clean spectra, evenly chosen where there are many."""
    flat = [part.reshape(len(part), -1) for part in training]
    step = max(sum(part.shape[1] for part in flat) // MOST_CLEAN, 1)
    return np.concatenate([_scaled(part[:, ::step][lit], top) for part in flat], axis=1)


def _remarks(protocol: FusionProtocol, whole: bool) -> str:
    if not protocol.paper:
        return ""
    if not whole:
        return "the data are smaller than the paper's: its rows are no comparison"
    if protocol.band_peaks is None:
        return "the paper does not state the peak of its PSNR, which stands in both columns"
    return ""


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over tests and seeds, by method and TGT, in the order in which they came."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["tgt"]), []).append(row)
    found = []
    for (method, tgt), same in groups.items():
        keys = [key for key, value in same[0].items() if isinstance(value, float)]
        means = {key: float(np.mean([row[key] for row in same])) for key in keys}
        took = sorted({row["took"] for row in same if "took" in row})
        found.append({"method": method, "tgt": tgt, **means, **({"took": took} if took else {})})
    return found


COLUMNS = (
    "method", "TGT", "PSNR", "PSNR at 1", "SAM, deg", "RMSE", "ERGAS", "UIQI", "SSIM", "cover 90", "seconds",
)  # fmt: skip
_DIGITS = {
    "psnr": 2, "psnr_at_1": 2, "sam": 2, "rmse": 4, "ergas": 3, "uiqi": 3, "ssim": 4, "cover": 2,
    "seconds": 1,
}  # fmt: skip


def table(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each method and TGT, best first in each, then the paper's."""
    own = sorted(
        report["methods"], key=lambda row: ((WITHOUT, WITH, TRAINED).index(row["tgt"]), -row["psnr"])
    )
    lines = []
    for row in own:
        took = f" ({', '.join(row['took'])})" if "took" in row else ""
        lines.append(_line(row["method"] + took, row))
    for row in report["paper"]:
        psnr = row["psnr"]
        both = {"psnr_at_1": psnr} if report["paper_band_peaks"] is None else {}
        lines.append(_line(f"{report['paper_of']}, {row['where']}", {**row, **both}))
    return lines


def _line(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [f"{row[key]:.{digits}f}" if key in row else "" for key, digits in _DIGITS.items()]
    return name, row["tgt"], *cells
