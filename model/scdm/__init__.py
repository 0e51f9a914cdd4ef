"""SCDM as published (Chen et al. 2024).

preset: the published values · cascade: the two U-Nets and their sampler · train: their training ·
system: its entry in the registry.
"""
