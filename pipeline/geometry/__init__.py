"""Where things are: windows, tiles, grids and how they meet. Pure arithmetic, no input or output.

grid: ``Window``, ``Grid`` · tiling: ``Tile``, ``Block``, ``Tiling`` · blend: ``tile_weights`` · levels:
``Level`` · placing, footprint, pixels: places on the map, outlines, pixels of points and polygons.
"""
