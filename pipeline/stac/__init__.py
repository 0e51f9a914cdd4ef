"""Cubes in a STAC catalog, and scenes from an inbox.

item: the STAC item of a cube · collection: ``Catalog``, many items with an index · inbox: the scenes of a
folder or a STAC document.
"""
