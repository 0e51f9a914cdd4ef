import re
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.indices import INDICES

# Reflectance of a leaf-like surface where the indices take it.
LEAF = {
    469: 0.03, 531: 0.07, 550: 0.10, 560: 0.09, 570: 0.08, 645: 0.05, 665: 0.04, 670: 0.045, 700: 0.12,
    710: 0.20, 720: 0.27, 780: 0.46, 790: 0.47, 858: 0.49, 860: 0.49, 865: 0.50, 1240: 0.42, 2200: 0.15,
}  # fmt: skip

BY_HAND = {
    "ndvi": 0.46 / 0.54,
    "gndvi": 0.40 / 0.60,
    "ndre": 0.20 / 0.74,
    "ci_red_edge": 0.46 / 0.20 - 1,
    "mcari": (0.075 - 0.2 * 0.02) * 0.12 / 0.045,
    "evi": 2.5 * 0.44 / (0.49 + 0.30 - 0.225 + 1),
    "savi": 1.5 * 0.46 / 1.04,
    "pri": -0.01 / 0.15,
    "ndwi_mcfeeters": -0.41 / 0.59,
    "ndwi_gao": 0.07 / 0.91,
    "nbr": 0.35 / 0.65,
}


def bands_of(name: str) -> list[np.ndarray]:
    return [np.full((2, 3), LEAF[int(nm)], np.float32) for nm in INDICES[name].wavelength_nm]


@pytest.mark.parametrize("name", INDICES)
def test_every_index_is_the_number_worked_out_by_hand(name):
    found = INDICES[name].of(*bands_of(name))
    assert found.shape == (2, 3)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.full((2, 3), BY_HAND[name]), rel=1e-5)


@pytest.mark.parametrize("name", INDICES)
def test_every_formula_names_the_wavelengths_that_are_taken(name):
    named = {float(nm) for nm in re.findall(r"R(\d+)", INDICES[name].formula)}
    assert named == set(INDICES[name].wavelength_nm)


def test_two_black_bands_have_no_index_and_give_no_warning():
    black = np.zeros((1, 2), np.float32)
    assert np.isnan(INDICES["ndvi"].of(black, black)).all()
    assert np.isnan(INDICES["ci_red_edge"].of(black + 1, black)).all()
    assert np.isnan(INDICES["ndvi"].of(np.full((1, 2), np.nan, np.float32), black)).all()


def test_the_page_of_indices_has_a_row_for_each_with_its_formula_and_reference():
    page = (Path(__file__).parents[2] / "docs/indices.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | {index.title} | {index.formula} | {index.reference} |"
        for name, index in INDICES.items()
    ]
    assert rows == expected
