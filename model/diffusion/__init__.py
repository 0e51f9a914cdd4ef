"""Diffusion without a network: schedules, parameterizations, samplers, noise.

schedule: ``Schedule`` · parameterization: eps, x0, v · sampler: ancestral, DPM-Solver++(2M) ·
guidance (ICMG) · truncation (PDT) · losses · noise: keyed on the position · grain: noise with the
residual's texture.
"""
