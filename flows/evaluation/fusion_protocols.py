"""The published protocols of fusion: what a scene is cut into, and how pairs are made of it.

Each value of a protocol has its source: P the paper, C its authors' code, I our reading where
both are silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import SENSORS, Bands
from spectile.catalog.errors import SceneError
from spectile.model.fusion.scored import Degradation

Values = NDArray[np.generic]

SDP, HSR_DIFF = "SDP (Liu et al. 2023)", "HSR-Diff (Wu et al. 2023)"
LEAST = 4
"""Coarse pixels along a test image, at least."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A scene cut into what may be learned from and what is fused; they share no pixel."""

    training: list[Values]
    """(B, …) each: clean pixels."""
    tests: list[Values]
    """(B, H, W) each, sides in whole coarse pixels."""
    whole: bool = True
    """Whether the scene has the size of the paper's; a smaller one is cut in the same proportions."""


class PaperRow(NamedTuple):
    """A row of a paper's table."""

    where: str
    """Table and method."""
    tgt: bool
    """Whether the method learned from clean pixels beside the test."""
    scores: Mapping[str, float]
    """By the names of ``scores_of``."""


@dataclass(frozen=True)
class FusionProtocol:
    """How methods of fusion are compared on one data set."""

    name: str
    """As on the command line."""
    data: str
    """The data set, for people."""
    how: Degradation
    """How pairs are made."""
    sensor: str
    """The sharp sensor, as of ``--sensor``."""
    split: str
    """The cut in words."""
    cut: Callable[[Sequence[Values]], Parts]
    """Scenes (B, H, W) → parts; most data sets have one scene."""
    bands: tuple[int, ...] = ()
    """How many bands the data set may have; any if empty."""
    many: bool = False
    """Whether it is a folder of scenes."""
    of_bands: Mapping[int, Bands] = field(default_factory=dict)
    """Nominal bands by their number, for files that do not state theirs."""
    ends: Mapping[int, int] = field(default_factory=dict)
    """How many bands are left out at each end, by their number."""
    paper_of: str = ""
    """Whose table it is."""
    band_peaks: bool | None = None
    """Whether the paper's PSNR has each band's own peak; None where it does not say."""
    paper: tuple[PaperRow, ...] = ()
    """Rows of its table: its own method, and the best of those that it is compared with."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value is from."""


def _multiple(side: int, ratio: int) -> int:
    return side // ratio * ratio


def _checked(parts: Parts, ratio: int) -> Parts:
    for test in parts.tests:
        if min(test.shape[1:]) < LEAST * ratio:
            raise SceneError(
                "the scene is too small for the protocol",
                got=f"test images of {test.shape[1]}×{test.shape[2]} px",
                expected=f"{LEAST * ratio} px or more along each side",
            )
    return parts


def cut_sdp(scenes: Sequence[Values], ratio: int = 8) -> Parts:
    """The up-left 512 × 256 px: the upper half is learned from, the lower one tested."""
    (scene,) = scenes
    height, width = scene.shape[1:]
    half, cols = _multiple(min(height, 512) // 2, ratio), _multiple(min(width, 256), ratio)
    parts = Parts(
        [scene[:, :half, :cols]], [scene[:, half : 2 * half, :cols]], whole=height >= 512 and width >= 256
    )
    return _checked(parts, ratio)


def cut_paviau(scenes: Sequence[Values], ratio: int = 4) -> Parts:
    """The up-left 128² px are tested, the rest is learned from."""
    (scene,) = scenes
    height, width = scene.shape[1:]
    side = _multiple(min(128, height // 2, width // 2), ratio)
    training = [scene[:, side:], scene[:, :side, side:]]
    return _checked(Parts(training, [scene[:, :side, :side]], whole=height >= 256 and width >= 256), ratio)


def cut_chikusei(scenes: Sequence[Values], ratio: int = 4) -> Parts:
    """The middle 2048² px: the upper half is learned from, the lower one is eight tests of 512² px."""
    (scene,) = scenes
    height, width = scene.shape[1:]
    tile = _multiple(min(height, width, 2048) // 4, ratio)
    top, left = ((side - 4 * tile) // 2 for side in (height, width))
    middle = scene[:, top : top + 4 * tile, left : left + 4 * tile]
    tests = [
        middle[:, row : row + tile, col : col + tile]
        for row in (2 * tile, 3 * tile)
        for col in range(0, 4 * tile, tile)
    ]
    return _checked(Parts([middle[:, : 2 * tile]], tests, whole=tile == 512), ratio)


def cut_halves(scenes: Sequence[Values], ratio: int) -> Parts:
    """The right half is tested, the left one learned from."""
    (scene,) = scenes
    height, width = scene.shape[1:]
    rows, cols = _multiple(height, ratio), _multiple(width // 2, ratio)
    parts = Parts([scene[:, :, : width - cols]], [scene[:, :rows, width - cols :]])
    return _checked(parts, ratio)


def cut_cave(scenes: Sequence[Values], ratio: int = 32) -> Parts:
    """The first 20 of 32 scenes are learned from, the others tested; of fewer, five eighths."""
    first = 20 if len(scenes) >= 32 else len(scenes) * 5 // 8
    tests = [
        scene[:, : _multiple(scene.shape[1], ratio), : _multiple(scene.shape[2], ratio)]
        for scene in scenes[first:]
    ]
    whole = len(scenes) == 32 and all(scene.shape[1:] == (512, 512) for scene in scenes)
    if not first:
        raise SceneError("too few scenes", got=len(scenes), expected="2 or more, 32 in all")
    return _checked(Parts(list(scenes[:first]), tests, whole=whole), ratio)


def _row(where: str, psnr: float, sam: float, ergas: float, *, tgt: bool = False, **more: float) -> PaperRow:
    return PaperRow(where, tgt, {"psnr": psnr, "sam": sam, "ergas": ergas, **more})


PUBLISHED = Degradation(8, 3.4, (20.0, 30.0), psf_size=15, psf_phase=0.0, border="zeros")
"""SDP's."""
SDP_SOURCES = {
    "crop, halves": "P, IV-A",
    "ratio, PSF": "P, IV-A: 8; 15 × 15 px, sigma 3.40",
    "phase, border": "C: sampled at the first fine pixel, with zeros beyond the border",
    "noise": "P: 20 and 30 dB; I: one deviation for all bands, from the mean square",
    "SRF": "P: IKONOS, measured; I: here its published ranges, unless --sensor names the curves",
    "scale": "P: [0, 1]; I: by the largest value of the crop",
    "PSNR": "C: each band's own peak",
    "PSF and SRF known": "I: the paper estimates both",
}
_AVIRIS_LEFT_OUT = (*range(1, 5), *range(102, 117), *range(151, 173), *range(218, 225))
_KSC = Bands.evenly_spaced(400.0, 2500.0, 224).subset(
    [at for at in range(224) if at + 1 not in _AVIRIS_LEFT_OUT]
)
HSR_SOURCES = {
    "noise": "P: none",
    "PSF": "P: Gaussian; I: a full width at half maximum of one coarse pixel, mirrored beyond the border",
    "phase": "I: the middle of the coarse pixel",
    "PSNR": "the paper does not state its peak",
}


def _sdp(
    name: str, data: str, bands: int, nominal: Bands | None, wavelengths: str, paper: tuple[PaperRow, ...]
) -> FusionProtocol:
    return FusionProtocol(
        name=name, data=data, how=PUBLISHED, sensor="ikonos", cut=cut_sdp, bands=(bands,),
        split="the up-left 512×256 px: the upper 256 rows are TGT, the lower 256 are tested",
        of_bands={} if nominal is None else {bands: nominal},
        paper_of=SDP, band_peaks=True,
        sources={**SDP_SOURCES, "wavelengths": wavelengths}, paper=paper,
    )  # fmt: skip


FUSION_PROTOCOLS = {
    one.name: one
    for one in (
        _sdp(
            "paviau-x8", "Pavia University, 103 bands", 103, SENSORS["pavia_university"],
            "P: 430 to 860 nm; I: equally spaced",
            paper=(
                _row("Table II: SDP", 34.12, 3.07, 0.825, rmse=0.022, uiqi=0.984, tgt=True),
                _row("Table II: CNN-FUS", 32.37, 3.54, 0.981, rmse=0.026, uiqi=0.980),
                _row("Table II: HySure", 32.05, 3.81, 1.029, rmse=0.027, uiqi=0.979),
            ),
        ),
        _sdp(
            "ksc", "Kennedy Space Center, 176 bands", 176, _KSC,
            "P: 400 to 2500 nm, 224 bands; I: equally spaced, without 1-4, 102-116, 151-172 and 218-224",
            paper=(
                _row("Table III: SDP", 33.70, 4.11, 1.787, rmse=0.026, uiqi=0.805, tgt=True),
                _row("Table III: HySure", 31.98, 4.56, 1.929, rmse=0.029, uiqi=0.826),
            ),
        ),
        _sdp(
            "dc", "Washington DC Mall, 191 bands", 191, None,
            "P: 400 to 2400 nm, but HYDICE's are not equally spaced: the file or --wavelengths states them",
            paper=(
                _row("Table IV: SDP", 32.56, 2.61, 9.524, rmse=0.020, uiqi=0.959, tgt=True),
                _row("Table IV: MIAE", 29.53, 3.59, 10.048, rmse=0.026, uiqi=0.875),
            ),
        ),
        FusionProtocol(
            name="paviau-x4", data="Pavia University, 103 bands", how=Degradation.of_width(4, 1.0, None),
            sensor="worldview3",
            split="the up-left 128×128 px are tested, the rest is TGT", cut=cut_paviau, bands=(103,),
            of_bands={103: SENSORS["pavia_university"]}, paper_of=HSR_DIFF,
            paper=(
                _row("Table 1: HSR-Diff", 46.47, 1.45, 1.053, ssim=0.9977, tgt=True),
                _row("Table 1: UTV-TD", 44.46, 1.80, 1.236, ssim=0.9952),
            ),
            sources={
                "crop, ratio": "P, 4.1", **HSR_SOURCES,
                "SRF": "P: WorldView-3; I: Gaussians of its published ranges, those that the HSI covers",
                "wavelengths": "I: 430 to 860 nm, equally spaced", "scale": "I: [0, 1] by the largest value",
            },
        ),
        FusionProtocol(
            name="cave-x32", data="CAVE, 32 scenes of 31 bands", how=Degradation.of_width(32, 1.0, None),
            sensor="rgb",
            split="the first 20 scenes by name are TGT, the other 12 are tested", cut=cut_cave, many=True,
            bands=(31,), of_bands={31: Bands.evenly_spaced(400.0, 700.0, 31)}, paper_of=HSR_DIFF,
            paper=(
                _row("Table 1: HSR-Diff", 44.33, 3.71, 0.179, ssim=0.9951, tgt=True),
                _row("Table 1: UTV-TD", 38.66, 7.98, 0.329, ssim=0.9799),
            ),
            sources={
                "split, ratio": "P, 4.1; I: the first 20 by name", **HSR_SOURCES,
                "SRF": "P: Nikon D700; I: here a nominal camera, unless --sensor names the curves",
                "wavelengths": "of the data set: 400 to 700 nm",
                "scale": "I: PNG by what its type holds, then [0, 1] by the largest value",
            },
        ),
        FusionProtocol(
            name="chikusei-x4", data="Chikusei, 128 bands", how=Degradation.of_width(4, 1.0, None),
            sensor="worldview3",
            split="the middle 2048×2048 px: the upper half is TGT, the lower half eight tests of 512×512 px",
            cut=cut_chikusei, bands=(128, 110),
            of_bands={
                128: Bands.evenly_spaced(363.0, 1018.0, 128),
                110: Bands.evenly_spaced(363.0, 1018.0, 128).subset(range(9, 119)),
            },
            ends={128: 9}, paper_of=HSR_DIFF,
            paper=(
                _row("Table 1: HSR-Diff", 57.34, 0.43, 0.324, ssim=0.9999, tgt=True),
                _row("Table 1: UTV-TD", 48.38, 0.99, 1.303, ssim=0.9989),
            ),
            sources={
                "crop, split, ratio": "P, 4.1", **HSR_SOURCES,
                "bands": "P: 110 without noisy ones; I: without the first and the last nine",
                "SRF": "P: as PaviaU; I: Gaussians of the published ranges, those that the HSI covers",
                "wavelengths": "P: 363 to 1018 nm; I: equally spaced",
                "scale": "I: [0, 1] by the largest value",
            },
        ),
    )
}  # fmt: skip
"""The published protocols by name; ``wald`` has its numbers from the command line."""
