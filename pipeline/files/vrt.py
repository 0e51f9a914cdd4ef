"""Which VRTs are accepted: mosaics of TIFFs in the same folder or below, and no other kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from spectile.catalog.errors import SceneError
from spectile.pipeline.files.xml import read_xml

# Computed bands, warped bands and raw parts of files have other elements or a subClass.
_ELEMENTS = {
    "VRTDataset", "SRS", "GeoTransform", "Metadata", "MDI", "VRTRasterBand", "Description", "UnitType",
    "ColorInterp", "NoDataValue", "HideNoDataValue", "Offset", "Scale", "SimpleSource", "ComplexSource",
    "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "ScaleOffset",
    "ScaleRatio", "UseMaskBand", "MaskBand", "OverviewList", "Histograms", "HistItem", "HistMin", "HistMax",
    "BucketCount", "IncludeOutOfRange", "Approximate", "HistCounts",
}  # fmt: skip

# GDAL treats an attribute like an element of the same name, so attributes are listed too.
_ATTRIBUTES = {
    "rasterxsize", "rasterysize", "datatype", "band", "subclass", "relativetovrt", "shared", "blockxsize",
    "blockysize", "key", "domain", "dataaxistosrsaxismapping", "xoff", "yoff", "xsize", "ysize", "resampling",
}  # fmt: skip


def vrt_sources(path: Path) -> Iterator[Path]:
    """The files that a VRT refers to.

    Raises
    ------
    SceneError : it is not a plain mosaic, or refers to a file outside its folder.
    """
    folder = Path(os.path.realpath(path.parent))
    named = set()
    for element in read_xml(path, "VRT").iter():
        attributes = {name.lower(): value for name, value in element.attrib.items()}
        kind = attributes.get("subclass", "VRTSourcedRasterBand")
        relative = attributes.get("relativetovrt", "0")
        if (
            element.tag not in _ELEMENTS
            or not attributes.keys() <= _ATTRIBUTES
            or kind != "VRTSourcedRasterBand"
            or relative not in ("0", "1")
        ):
            raise SceneError(
                "a VRT of this kind cannot be used", where=str(path), got=f"{element.tag} {kind}",
                expected="a mosaic of TIFFs beside it", remedy="write it out, e.g. rio convert",
            )  # fmt: skip
        if element.tag == "SourceFilename":
            named.add((relative, element.text or ""))
    for relative, name in sorted(named):
        source = Path(os.path.realpath(folder / name if relative == "1" else Path(name).absolute()))
        if not source.is_relative_to(folder):
            raise SceneError(
                "the VRT refers to a file outside its folder", where=str(path), got=name,
                expected="files in its folder or below",
            )  # fmt: skip
        yield source
