"""Opening and reading of scenes.

source: ``open_source`` · bands: which bands feed a model · raster, file: ``SceneSource``, one file · parts,
safe, stack, placed, xml: several files as one scene · lazy: ``open_scene``, for notebooks · opening, vrt:
files that are accepted · radiometry: what stored numbers mean · remote, addresses: scenes by URL ·
hyperspectral, formats, spectra: measured cubes and spectral libraries, for training and evaluation.
"""
