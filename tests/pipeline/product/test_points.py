import numpy as np
import zarr

from spectile.pipeline.product import points
from spectile.pipeline.product.points import POINTS, choose_points


def group(valid: np.ndarray, *factors: int):
    """A group that holds the masks of a cube and of its overviews."""
    root = zarr.create_group({})
    for factor in (1, *factors):
        at = root if factor == 1 else root.require_group(f"overviews/{factor}")
        rows, cols = (-(-size // factor) for size in valid.shape)
        coarse = np.zeros((rows, cols), np.uint8)
        for row, col in np.argwhere(valid):
            coarse[row // factor, col // factor] = 1
        at.create_array("valid", data=coarse)
    return root


def test_points_are_valid_and_far_apart():
    valid = np.zeros((90, 120), dtype=bool)
    valid[10:80, 10:110] = True
    found = choose_points(group(valid))
    assert len(found) == POINTS
    assert all(valid[place] for place in found)
    assert found == sorted(found)
    away = [np.hypot(a[0] - b[0], a[1] - b[1]) for a in found for b in found if a != b]
    assert min(away) > 15


def test_on_an_overview_the_pixel_of_the_cube_is_valid(monkeypatch):
    monkeypatch.setattr(points, "LARGEST_SIDE", 40)
    valid = np.zeros((90, 120), dtype=bool)
    valid[1::4, 2::4] = True
    found = choose_points(group(valid, 2, 4))
    assert found
    assert all(valid[place] for place in found)


def test_a_cube_with_nothing_valid_has_no_points():
    assert choose_points(group(np.zeros((9, 9), dtype=bool))) == []
