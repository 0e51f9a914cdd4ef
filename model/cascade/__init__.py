"""The default model: two stages, closed-form mean, corrected, with a diffused residual.

cascade: ``SpectralCascade`` · means, train: its training · spread, sites: the calibration of its spread ·
shuffle: whether its second stage uses the first · system: its entry in the registry.
"""
