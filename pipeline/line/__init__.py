"""Several overlapping scenes as one source on one grid.

source: ``LineSource`` · grid: ``choose_grid`` · members: the opened scenes · feather: the weights of scenes
where they overlap.
"""
