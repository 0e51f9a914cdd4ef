"""What networks learn from.

crops: pairs of colours and spectra, cut into crops · degrade: pairs of a cube, as Wald makes them ·
pairs: such pairs on the device that trains.
"""
