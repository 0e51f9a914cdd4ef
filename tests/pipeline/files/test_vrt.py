from pathlib import Path

import pytest

from spectile.catalog.errors import SceneError
from spectile.pipeline.files import xml
from spectile.pipeline.files.vrt import vrt_sources

SOURCE = '<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename></SimpleSource>'


def write(folder: Path, inside: str, *, before: str = "", kind: str = "") -> Path:
    path = folder / "a.vrt"
    band = f'<VRTRasterBand dataType="Byte" band="1"{kind}>{inside}</VRTRasterBand>'
    path.write_text(f'{before}<VRTDataset rasterXSize="9" rasterYSize="8">{band}</VRTDataset>')
    return path


def test_a_mosaic_shows_the_files_beside_it_each_once(tmp_path):
    inside = "".join(SOURCE.format(relative=1, name=name) for name in ("b.tif", "deep/a.tif", "b.tif"))
    whole = SOURCE.format(relative=0, name=tmp_path / "c.tif")
    found = set(vrt_sources(write(tmp_path, inside + whole)))
    assert found == {tmp_path / name for name in ("b.tif", "deep/a.tif", "c.tif")}


@pytest.mark.parametrize(
    ("inside", "more", "why"),
    [
        (SOURCE.format(relative=1, name="../b.tif"), {}, "refers to a file outside its folder"),
        (SOURCE.format(relative=0, name="/etc/b.tif"), {}, "refers to a file outside its folder"),
        (SOURCE.format(relative=2, name="b.tif"), {}, "of this kind cannot be used"),
        ("<PixelFunctionType>sqrt</PixelFunctionType>", {}, "of this kind cannot be used"),
        ("", {"kind": ' subClass="VRTRawRasterBand"'}, "of this kind cannot be used"),
        ("", {"before": '<!DOCTYPE a [<!ENTITY b "c">]>'}, "declares entities"),
        ("<open>", {}, "not a VRT that can be read"),
    ],
)
def test_a_vrt_that_is_more_than_a_mosaic_is_refused(tmp_path, inside, more, why):
    with pytest.raises(SceneError, match=why):
        list(vrt_sources(write(tmp_path, inside, **more)))


def test_a_vrt_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(xml, "MOST_BYTES", 10)
    with pytest.raises(SceneError, match="too large"):
        list(vrt_sources(write(tmp_path, "")))
