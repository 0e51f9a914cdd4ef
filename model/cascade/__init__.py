"""The default model: two stages, closed-form mean, corrected, with a diffused residual.

cascade: ``SpectralCascade`` · means, train: its training · spread, sites: what its spread is worth ·
shuffle: whether its second stage listens to the first · system: its entry in the registry.
"""
