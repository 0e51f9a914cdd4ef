import base64
import re
import warnings

import numpy as np
import pytest
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from spectile.flows.deployed.page_pictures import LARGEST_SIDE, markdown_picture, markdown_table


def png(rows: int, cols: int, count: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (count, rows, cols), dtype=np.uint8)
    with warnings.catch_warnings(), MemoryFile(ext=".png") as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(driver="PNG", count=count, height=rows, width=cols, dtype="uint8") as out:
            out.write(pixels)
        return bytes(file.getbuffer())


def shown(text: str) -> tuple[int, int]:
    """(rows, cols) of the picture in a text."""
    match = re.fullmatch(r"!\[quicklook\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)", text)
    assert match
    with warnings.catch_warnings(), MemoryFile(base64.b64decode(match[1])) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open() as picture:
            return picture.shape


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 60), (40, 60)), ((3000, 1500), (LARGEST_SIDE, 500)), ((1, 4000), (1, 1000))]
)
@pytest.mark.parametrize("count", [3, 4])
def test_a_picture_is_part_of_the_text_and_no_larger_than_it_may_be(size, expected, count):
    assert shown(markdown_picture("quicklook", png(*size, count))) == expected


def test_noise_of_the_largest_size_stays_below_two_megabytes():
    assert len(markdown_picture("quicklook", png(LARGEST_SIDE, LARGEST_SIDE, 3))) < 2_000_000


def test_a_table_holds_what_would_end_a_cell():
    assert markdown_table({"cube": "a|b\nc"}) == "| | |\n|---|---|\n| cube | a\\|b c |"
