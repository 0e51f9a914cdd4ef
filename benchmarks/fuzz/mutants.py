"""GeoTIFFs that are damaged at random, each a function of the seed and its number."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

PLACE = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
KINDS = [
    ("uint8", "none"), ("uint8", "deflate"), ("uint8", "lzw"), ("uint8", "zstd"), ("uint8", "webp"),
    ("uint8", "jpeg"), ("uint8", "lerc"), ("uint16", "none"), ("uint16", "deflate"), ("uint16", "lzw"),
    ("uint16", "zstd"), ("uint16", "lerc"), ("float32", "deflate"), ("float32", "zstd"), ("float32", "lerc"),
]  # fmt: skip
RADIOMETRY = {"uint8": None, "uint16": "dn:0,0.00002", "float32": None}
"""What is said of the numbers."""


def write_mutant(folder: Path, seed: int, number: int) -> tuple[Path, str | None, str]:
    """Write one; its path, its radiometry, and what it is."""
    rng = np.random.default_rng([seed, number])
    dtype, compression = KINDS[int(rng.integers(len(KINDS)))]
    tiled = bool(rng.integers(2))
    path = folder / "scene.tif"
    write_tiff(path, rng, dtype, compress=compression, tiled=tiled)
    damage = ("bits", "cut", "header", "hole", "bits", "header", "whole")[int(rng.integers(7))]
    raw = bytearray(path.read_bytes())
    _DAMAGES[damage](raw, rng)
    path.write_bytes(raw)
    return path, RADIOMETRY[dtype], f"{damage} {dtype} {compression} {'tiled' if tiled else 'striped'}"


def write_tiff(path: Path, rng: np.random.Generator, dtype: str, **options: object) -> None:
    """A small scene of smooth colours and some noise."""
    rows, cols = (int(side) for side in rng.integers(30, 200, 2))
    y, x = np.mgrid[:rows, :cols]
    picture = (
        0.5 + 0.3 * np.sin(np.stack([y / 9, x / 7, (x + y) / 11])) + rng.normal(0, 0.02, (3, rows, cols))
    )
    top = 1.0 if dtype == "float32" else 0.9 * np.iinfo(dtype).max
    tiles = {"blockxsize": 64, "blockysize": 64} if options.get("tiled") else {}
    more = {"webp_level": 90} if options.get("compress") == "webp" else {}
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=rows, width=cols, dtype=dtype, crs="EPSG:32619",
        transform=PLACE, photometric="RGB", interleave="pixel", **{**options, **tiles, **more},
    ) as dataset:  # fmt: skip
        dataset.write((picture.clip(0, 1) * top).astype(dtype))


def _bits(raw: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 17))):
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))


def _cut(raw: bytearray, rng: np.random.Generator) -> None:
    del raw[int(rng.integers(len(raw))) :]


def _header(raw: bytearray, rng: np.random.Generator) -> None:
    """Another number in a field of the directory, or of the file's header."""
    first = struct.unpack("<I", raw[4:8])[0]
    entries = struct.unpack("<H", raw[first : first + 2])[0]
    values = (0, 1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, int(rng.integers(2**32)))
    value = values[int(rng.integers(len(values)))]
    at = first + 2 + 12 * int(rng.integers(entries)) + (2, 4, 8)[int(rng.integers(3))]
    if rng.integers(8) == 0:
        at = int(rng.integers(2, 5))
    raw[at : at + 4] = struct.pack("<I", value)


def _hole(raw: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(raw)))
    span = min(len(raw) - at, int(rng.integers(1, 5000)))
    raw[at : at + span] = b"\0" * span


def _whole(raw: bytearray, rng: np.random.Generator) -> None:
    """Nothing."""


_DAMAGES = {"bits": _bits, "cut": _cut, "header": _header, "hole": _hole, "whole": _whole}
