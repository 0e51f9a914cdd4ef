"""Windows, tiles, blocks and grids. Arithmetic only, no input or output.

grid: ``Window``, ``Grid`` · tiling: ``Tile``, ``Block``, ``Tiling`` · blend: ``tile_weights`` · levels:
``Level`` · placing: one grid on another · footprint, places: a grid on the globe · pixels: pixels of points
and polygons.
"""
