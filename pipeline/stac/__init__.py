"""Cubes in a catalog, and scenes from one.

item: the STAC item of a cube · collection: many of them, with an index · inbox: what has arrived.
"""
