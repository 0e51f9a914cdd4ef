"""What networks learn from.

crops: pairs of colours and spectra, cut into crops.
"""
