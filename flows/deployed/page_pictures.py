"""Markdown for the pages of Prefect: a table, and a picture as part of the text.

Browsers refuse links from a page to files, so pictures go in as data, in a size that a database can hold.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping

from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

LARGEST_SIDE = 1000
"""Pixels of a picture's longer side at most."""

QUALITY = 80
"""Quality of the JPEG: a picture has about 100 to 300 kB."""


def markdown_table(pairs: Mapping[str, object]) -> str:
    """A table of names and values."""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in pairs.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|")


def markdown_picture(name: str, picture: bytes) -> str:
    """A picture as part of the text, reduced to ``LARGEST_SIDE``.

    Parameters
    ----------
    name : the text to show if the picture cannot be shown.
    picture : a file of three or four bands of uint8, such as PNG.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is a figure, not a map
        with MemoryFile(picture) as file, file.open() as whole:
            share = min(1.0, LARGEST_SIDE / max(whole.shape))
            height, width = (max(1, round(side * share)) for side in whole.shape)
            pixels = whole.read([1, 2, 3], out_shape=(3, height, width), resampling=Resampling.average)
        with MemoryFile(ext=".jpg") as file:
            with file.open(
                driver="JPEG", count=3, height=height, width=width, dtype="uint8", quality=QUALITY
            ) as small:
                small.write(pixels)
            data = base64.b64encode(file.getbuffer()).decode()
    return f"![{_cell(name)}](data:image/jpeg;base64,{data})"
