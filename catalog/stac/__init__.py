"""STAC: what the items of cubes say, and what the items of strangers may say.

items: ``build_item``, ``build_collection`` · index: the rows of a collection and queries on them · scenes:
the scene of an item, and where its hrefs may lead · documents: JSON from strangers, read with limits.
"""
