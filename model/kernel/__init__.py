"""Kernel ridge regression: a closed form of the channels, with samples, chosen by leaving places out.

``regression`` is the model, ``train`` fits it, ``system`` enters it in the registry.
"""
