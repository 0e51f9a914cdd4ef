"""Geometry, reading, blending and writing of scenes. Knows no torch and no prefect."""
