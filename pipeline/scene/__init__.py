"""How a scene is opened and read.

raster: ``open_source``, ``open_scene``, ``SceneSource`` · radiometry: what its numbers mean · remote:
scenes by URL · hyperspectral, formats, spectra: measured cubes and libraries of spectra, for training and
evaluation.
"""
