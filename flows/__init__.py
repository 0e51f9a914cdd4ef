"""Composition and front doors: Prefect flows, the command line, devices and logging."""
