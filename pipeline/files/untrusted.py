"""Files of spectra that anybody may have made: errors in one line, sizes checked before memory is taken."""

from __future__ import annotations

import csv
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xlrd
from rasterio.errors import RasterioError
from scipy.io.matlab import MatReadError
from xlrd.compdoc import CompDocError

from spectile.catalog.errors import SceneError, SpectileError
from spectile.catalog.stac.documents import one_line
from spectile.pipeline.files.opening import MOST_DEFLATED, check_file

ALWAYS_READ = 2**30
"""Decoded bytes up to which the size of a file does not matter; above, it must have what deflate needs."""
_RAISED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError,
    AssertionError, MemoryError, SystemError, RasterioError, MatReadError, CompDocError, xlrd.XLRDError,
    csv.Error, struct.error, zlib.error, SpectileError,
)  # fmt: skip
"""What the libraries raise for files that are damaged or of another kind."""


@contextmanager
def reading_file(path: Path, what: str = "cannot be read") -> Iterator[None]:
    """Turn the errors of a file's reader into one line.

    Raises
    ------
    SceneError : it is missing, not a regular file or a folder, or its reader fails.
    """
    if not path.is_dir():
        check_file(path)
    try:
        yield
    except _RAISED as err:
        raise SceneError(f"{what}: {one_line(err) or type(err).__name__}", where=path.name) from err


def check_decoded(path: Path, shape: Sequence[int], dtype: np.dtype[np.generic] | str) -> None:
    """Refuse an array that is too large for the bytes of its file, or of its folder.

    Raises
    ------
    ValueError : it is.
    """
    decoded = math.prod(shape) * np.dtype(dtype).itemsize
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    stored = sum(each.stat().st_size for each in files)
    if decoded > max(ALWAYS_READ, MOST_DEFLATED * stored):
        raise ValueError(f"{stored:,} bytes are too few for an array of {' × '.join(map(str, shape))}")
