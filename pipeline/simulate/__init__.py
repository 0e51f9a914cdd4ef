"""Scenes with known truth, as a pure function of position and seed.

scene: ``Simulator`` · landscape, cover, trees, buildings: the objects at each position · materials,
reflectance: their spectra.
"""
