"""A run: from settings to a plan, to blocks, to a finished cube.

settings, texts: ``SceneSettings``, and options from their text · planning: ``prepare`` · predictors: the
network · state: ``Prepared``, ``Observer``, ``Result`` · execute: ``run_scene`` · line: the same for a flight
line · crew, dispatch: worker processes and clusters · outputs, holding: the output and its lease · register:
STAC items · repair: damaged cubes · notify: notifications.
"""
