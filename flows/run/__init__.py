"""A run, composed: settings to plan to blocks to a finished cube.

prepare: ``SceneSettings``, ``prepare``, ``run_scene`` · line: the same of a flight line · crew, dispatch:
worker processes and clusters · holding: the lease of a run · register: its STAC item · repair: what
``verify`` found · notify: who is told.
"""
