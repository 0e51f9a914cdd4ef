"""Composition and entry points: Prefect flows, the command line, devices and logging."""
