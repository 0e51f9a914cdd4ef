import numpy as np
import pytest

from spectile.catalog.errors import SceneError, UsageError
from spectile.pipeline.scene.radiometry import (
    Radiometry,
    declare,
    display_gain,
    parse_radiometry,
)

PLAIN = {"offsets": (0.0, 0.0, 0.0), "scales": (1.0, 1.0, 1.0), "where": "s.tif"}
SCALED = {"offsets": (-0.1, -0.1, -0.1), "scales": (1e-4, 1e-4, 1e-4), "where": "s.tif"}


def test_the_files_own_scale_decides():
    radiometry, notice = declare(None, dtype="uint16", **SCALED)
    values = radiometry.to_reflectance(np.full((3, 1), 3000, np.uint16))
    np.testing.assert_allclose(values, 0.2, atol=1e-6)
    assert radiometry.kind == "reflectance"
    assert notice is None


@pytest.mark.parametrize("option", ["display", "dn:0,0.0001"])
def test_an_option_against_the_files_own_scale_is_refused(option):
    with pytest.raises(SceneError, match="declares its own scale"):
        declare(option, dtype="uint16", **SCALED)


def test_bytes_without_a_scale_are_a_display_picture_with_a_notice():
    radiometry, notice = declare(None, dtype="uint8", **PLAIN)
    assert radiometry.kind == "display"
    assert "display" in notice
    assert declare("display", dtype="uint8", **PLAIN)[1] is None


@pytest.mark.parametrize("option", [None, "reflectance"])
def test_bare_uint16_is_refused_with_the_option_to_set(option):
    with pytest.raises(SceneError, match="--radiometry dn:OFFSET,SCALE"):
        declare(option, dtype="uint16", **PLAIN)


def test_dn_takes_offset_then_scale():
    radiometry, _ = declare("dn:1000,0.0001", dtype="uint16", **PLAIN)
    np.testing.assert_allclose(radiometry.to_reflectance(np.full((3, 1), 3000, np.uint16)), 0.2, atol=1e-6)


NONSENSE = "|radiance|dn|dn:1|dn:a,b|dn:0,0|display:-1|display:1,2|reflectance:2|dn:nan,1"
NONSENSE += "|display/0|display/x|dn/255:0,1|display/255:0,1|display/inf"


@pytest.mark.parametrize("text", NONSENSE.split("|"))
def test_nonsense_is_refused_with_the_choices(text):
    with pytest.raises(UsageError, match="dn:OFFSET,SCALE"):
        parse_radiometry(text)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_display_picture_with_a_declared_peak_is_read_as_its_uint8_twin(dtype):
    numbers = np.arange(256, dtype=np.uint8).reshape(1, -1).repeat(3, axis=0)
    twin, _ = declare("display:0.6", dtype="uint8", **PLAIN)
    ours, _ = declare("display/255:0.6", dtype=dtype, **PLAIN)
    np.testing.assert_array_equal(ours.to_reflectance(numbers.astype(dtype)), twin.to_reflectance(numbers))
    assert ours.to_json() == twin.to_json()
    assert declare("display/255", dtype=dtype, **PLAIN)[0].gain is None


def test_floats_as_a_display_picture_need_their_peak():
    with pytest.raises(SceneError, match="display/255"):
        declare("display", dtype="float32", **PLAIN)


def test_the_gain_ignores_masked_pixels_and_a_black_picture_stays_black():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 200, (3, 40, 40), dtype=np.uint8)
    valid = np.ones((40, 40), bool)
    valid[:10] = False
    plain, _ = declare(None, dtype="uint8", **PLAIN)
    gain = display_gain(numbers, valid, plain)
    numbers[:, :10] = 255
    assert display_gain(numbers, valid, plain) == gain
    assert display_gain(np.zeros_like(numbers), valid, plain) == 1.0


def test_a_display_source_without_its_gain_cannot_be_read():
    with pytest.raises(ValueError, match="gain"):
        Radiometry("display").to_reflectance(np.zeros((3, 1), np.uint8))
