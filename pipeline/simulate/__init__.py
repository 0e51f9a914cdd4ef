"""Scenes with known truth, as a pure function of position and seed.

scene: ``Simulator`` · landscape, cover, trees, buildings: what lies where · materials, reflectance: its
spectra.
"""
