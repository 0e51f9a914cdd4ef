import pytest

from spectile.catalog.sizes import width_by_height


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1106, 1213), "1213 × 1106 px"),
        ((1, 9999), "9999 × 1 px"),
        ((40_000, 2_000), "2000 × 40,000 px"),
    ],
)
def test_a_size_is_width_by_height(shape, text):
    assert width_by_height(shape) == text
