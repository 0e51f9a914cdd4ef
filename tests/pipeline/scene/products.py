"""Small Sentinel-2 products in the real layout, for tests."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

NAME = "S2A_MSIL{level}_20240601T101031_N0510_R022_T33UUU_20240601T143210.SAFE"
SIZES = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20,
    "B09": 60, "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip
"""The resolution of each band, m, in the order of the instrument."""
SIDE = 1200
"""Metres along a side of the made-up tile."""


def numbers_of(band: str, size: int) -> np.ndarray:
    """What a band holds: a ramp that is linear in x and y, other in each band."""
    count = SIDE // size
    y, x = (np.mgrid[:count, :count] + 0.5) * size
    return (1500 + 100 * list(SIZES).index(band) + x + 0.5 * y).round().astype(np.uint16)


def write_safe(
    folder: Path, *, level: str = "2A", offset: int | None = -1000, hole: int = 0, head: str = ""
) -> Path:
    """A product with all bands of its level; the first ``hole`` columns of each, in m, are no data."""
    safe = folder / NAME.format(level=level)
    granule = f"GRANULE/L{level}_T33UUU_A046677_20240601T101559/IMG_DATA"
    tile = "T33UUU_20240601T101031"
    images = []
    for band, native in SIZES.items():
        if level == "2A" and band == "B10":
            continue
        # Level 2A has coarser copies of each band, too.
        for size in [each for each in (10, 20, 60) if each >= native] if level == "2A" else [native]:
            place = (
                f"{granule}/R{size}m/{tile}_{band}_{size}m" if level == "2A" else f"{granule}/{tile}_{band}"
            )
            images.append(place)
            if size == native:
                write_jp2(safe / f"{place}.jp2", numbers_of(band, size), size, hole=hole)
    kind = "BOA" if level == "2A" else "RADIO"
    offsets = "".join(
        f'<{kind}_ADD_OFFSET band_id="{at}">{offset}</{kind}_ADD_OFFSET>'
        for at in range(13 * (offset is not None))
    )
    wrapped = ("BOA_ADD_OFFSET_VALUES_LIST", "BOA_") if level == "2A" else ("Radiometric_Offset_List", "")
    files = "".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    (safe / f"MTD_MSIL{level}.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>{head}'
        f'<n1:Level-{level}_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/User_Product.xsd">'
        "<n1:General_Info><Product_Info><PRODUCT_START_TIME>2024-06-01T10:10:31.024Z</PRODUCT_START_TIME>"
        f"<Product_Organisation><Granule_List><Granule>{files}</Granule></Granule_List></Product_Organisation>"
        "</Product_Info><Product_Image_Characteristics><Special_Values><SPECIAL_VALUE_TEXT>NODATA"
        "</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>"
        f'<QUANTIFICATION_VALUES_LIST><{wrapped[1]}QUANTIFICATION_VALUE unit="none">10000'
        f"</{wrapped[1]}QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        f"<{wrapped[0]}>{offsets}</{wrapped[0]}>"
        "</Product_Image_Characteristics></n1:General_Info>"
        f"</n1:Level-{level}_User_Product>"
    )
    return safe


def write_jp2(path: Path, numbers: np.ndarray, size: float, *, hole: float = 0, driver: str = "") -> Path:
    """A band as lossless JPEG 2000, or in another format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = numbers.copy()
    numbers[:, : int(np.ceil(hole / size))] = 0
    lossless = {} if driver else {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(
        path, "w", driver=driver or "JP2OpenJPEG", count=1, height=len(numbers), width=numbers.shape[1],
        dtype=numbers.dtype, crs="EPSG:32633", transform=Affine(size, 0, 300_000, 0, -size, 5_800_020),
        **lossless,
    ) as dataset:  # fmt: skip
        dataset.write(numbers, 1)
    return path
