from dataclasses import replace

from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.report_pair import pair_of, quality_of
from tests.pipeline.fakes import NORTH_UP, UTM

ESTIMATES = {
    "psf_sigma_fine_px": [1.5, 1.75], "gain": [1.0, 0.98], "offset": [0.0, 0.01],
    "hsi_noise": [0.001, 0.002, 0.004], "msi_noise": [0.003], "subspace": 9, "components": 5,
    "method": "mixture", "windows": [[0, 0, 8, 8]],
    "wald": {"cubic": {"psnr": 20.5}, "mixture": {"psnr": 31.25, "sam_deg": 1.5}}, "d_lambda": 0.0123,
}  # fmt: skip


def plan(**settings) -> Plan:
    grid = Grid((600, 700), NORTH_UP, UTM)
    return Plan(grid, grid.window, Tiling(grid.shape), 512, 48, settings=settings)


def test_the_cube_of_a_scene_has_no_pair():
    assert pair_of(plan()) is None


def test_what_was_estimated_is_told_with_units():
    facts = {"ratio": 4, "shift": [0.25, -0.5], "slopes": [0.0, 0.001, 0.0, 0.0], "estimates": ESTIMATES}
    pair = pair_of(plan(pair=facts))
    assert pair is not None
    assert pair.estimates["shift taken out"] == "0.25, -0.5 px of the cube, down and right, in the middle"
    assert pair.estimates["noise of the HSI"].startswith("median 0.002, from 0.001 to 0.004 a band")
    assert pair.estimates["d_lambda"] == "0.0123"
    assert pair.scores == ("psnr", "sam_deg")
    assert pair.wald == {"cubic": ("20.5", ""), "mixture": ("31.25", "1.5")}


def test_how_good_a_fused_cube_is_is_told_in_few_words():
    settings = {"model": {"name": "fuse:mixture"}, "pair": {"estimates": {**ESTIMATES, "d_s": 0.064}}}
    told = ("D_λ 0.0123", "D_s 0.064", "Wald on the pair itself 31.2 dB, 1.5°")
    assert quality_of(settings) == told
    trained = {**settings, "model": {"name": "own-sdp"}}
    assert quality_of(trained) == told[:2]
    for other in (
        {},
        [],
        {"pair": "x"},
        {"pair": {"estimates": {"d_lambda": "<b>", "wald": [1]}}, "model": 3},
    ):
        assert quality_of(other) == ()


def test_folders_are_not_told():
    estimates = {**ESTIMATES, "method": "/home/somebody/mixture"}
    pair = pair_of(replace(plan(pair={"ratio": 4, "estimates": estimates})))
    assert pair is not None
    assert pair.estimates["method that did best"] == "mixture"
