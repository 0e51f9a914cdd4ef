"""SDP as published (Liu et al. 2023): a diffusion prior of single spectra, and fusion under it.

preset: the published values · fusion: the prior and the fusion · train: training of the prior ·
system: its entry in the registry.
"""
