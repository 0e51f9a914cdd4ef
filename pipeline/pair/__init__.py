"""A coarse hyperspectral scene (HSI) and a sharp multispectral one (MSI) of the same place, read as one.

bands: which bands each has · stored: scenes in Zarr · grid: the HSI's grid, divided · warp: the MSI averaged
onto it · source: ``open_pair`` · sample: the windows from which a pair is estimated.
"""
