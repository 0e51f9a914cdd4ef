"""Fusion of a coarse hyperspectral scene with a sharp multispectral one.

pair: what is known of a pair, and how it is kept.
"""
