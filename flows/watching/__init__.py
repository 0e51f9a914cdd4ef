"""New scenes of an inbox become cubes.

sweep: ``sweep``, one pass over the inbox, and ``WatchSettings``.
"""
