"""Several overlapping scenes as one source on one grid.

source: ``LineSource`` · grid: the grid that a line gets · members: its scenes, opened · feather: how they
are joined.
"""
