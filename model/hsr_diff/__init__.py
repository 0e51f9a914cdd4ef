"""HSR-Diff as published (Wu et al. 2023): diffusion that fuses a coarse HSI with a sharp MSI.

preset: the published values · fusion: the network and its sampler · train: its training ·
system: its entry in the registry.
"""
