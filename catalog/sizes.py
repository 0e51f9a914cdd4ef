"""How a size in pixels is written for people: width × height, everywhere."""

from __future__ import annotations


def width_by_height(shape: tuple[int, int]) -> str:
    """``"1213 × 1106 px"``: columns, then rows; arrays have the opposite order.

    Parameters
    ----------
    shape : (rows, columns), px.
    """
    rows, columns = (f"{count:,}" if count > 9999 else str(count) for count in shape)
    return f"{columns} × {rows} px"
