"""Measured spectra: hyperspectral scenes and spectral libraries in files, and whether their bands are right.

``hyperspectral`` reads scenes, ``libraries`` spectra and responses, ``formats`` each kind of file.
"""
