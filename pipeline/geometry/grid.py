"""Windows of a raster, and the grid that places its pixels on the map."""

from __future__ import annotations

from dataclasses import dataclass

from affine import Affine


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels. It may reach beyond its raster."""

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a window cannot have a negative size: {self}")

    @property
    def row_stop(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The column after the last."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def size(self) -> int:
        """The number of pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index of the last two axes of an array."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def intersection(self, other: Window) -> Window:
        """The intersection; of size zero if the windows do not meet."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.row_stop, other.row_stop) - row)
        width = max(0, min(self.col_stop, other.col_stop) - col)
        return Window(row, col, height, width)

    def union(self, other: Window) -> Window:
        """The smallest window that contains both."""
        row, col = min(self.row, other.row), min(self.col, other.col)
        return Window(
            row,
            col,
            max(self.row_stop, other.row_stop) - row,
            max(self.col_stop, other.col_stop) - col,
        )

    def contains(self, other: Window) -> bool:
        """Whether every pixel of ``other`` lies inside."""
        return self.union(other) == self

    def relative_to(self, origin: Window) -> Window:
        """The same pixels, counted from the first pixel of ``origin``."""
        return Window(self.row - origin.row, self.col - origin.col, self.height, self.width)

    def coarser(self, ratio: int) -> Window:
        """The window on a grid with the same origin and pixels of ``ratio`` × ``ratio`` of these.

        Raises
        ------
        ValueError : the window does not consist of whole pixels of that grid.
        """
        sides = self.row, self.col, self.height, self.width
        if any(side % ratio for side in sides):
            raise ValueError(f"{self} does not hold whole pixels of {ratio} × {ratio}")
        return Window(*(side // ratio for side in sides))


@dataclass(frozen=True)
class Grid:
    """A raster's place on the map. Slicing it with a window gives the window's own grid."""

    shape: tuple[int, int]
    """(rows, columns)."""
    transform: Affine
    """From (column, row) of a pixel's upper left corner to (x, y) in the CRS; may be rotated."""
    crs_wkt: str
    """The coordinate reference system as WKT."""

    @property
    def window(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, *self.shape)

    @property
    def is_axis_aligned(self) -> bool:
        """Whether rows and columns are parallel to y and x, so that 1-D coordinates exist."""
        return bool(self.transform.b == 0 and self.transform.d == 0)

    def __getitem__(self, window: Window) -> Grid:
        """The grid of a window of this one."""
        origin = Affine.translation(window.col, window.row)
        return Grid(window.shape, self.transform @ origin, self.crs_wkt)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) of the four corners, in the CRS."""
        rows, cols = self.shape
        corners = [self.transform @ corner for corner in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def window_of(self, bounds: tuple[float, float, float, float]) -> Window:
        """The smallest window whose pixels cover map bounds, clipped to the grid.

        Bounds within a thousandth of a pixel of a pixel's edge count as on the edge.
        """
        x_min, y_min, x_max, y_max = bounds
        inverse = ~self.transform
        corners = [
            inverse @ corner for corner in ((x_min, y_min), (x_max, y_min), (x_min, y_max), (x_max, y_max))
        ]
        cols, rows = zip(*corners, strict=True)
        snap = 1e-3
        row, col = _floor(min(rows) + snap), _floor(min(cols) + snap)
        row_stop, col_stop = -_floor(-max(rows) + snap), -_floor(-max(cols) + snap)
        covering = Window(row, col, max(0, row_stop - row), max(0, col_stop - col))
        return covering.intersection(self.window)


def _floor(value: float) -> int:
    return int(value // 1)
