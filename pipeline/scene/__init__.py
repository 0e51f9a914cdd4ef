"""Opening and reading of scenes.

raster: ``open_source``, ``open_scene``, ``SceneSource`` · opening, vrt: which files are accepted ·
radiometry: what stored numbers mean · remote, addresses: scenes by URL · hyperspectral, formats, spectra:
measured cubes and spectral libraries, for training and evaluation.
"""
