"""Shared definitions that the other packages import: bands, inputs, errors, places, times, STAC documents.

bands: ``Bands``, ``SENSORS`` · sensors: the bands of files · inputs: ``InputSpec``, ``Batch`` · errors:
``SpectileError`` and its kinds · calibration: ``Calibration`` · indices: spectral indices · urls, scenes,
times, files, documents, redaction ·
stac, index: items and their table · fields, limits, sizes: numbers and how they are shown.
"""
