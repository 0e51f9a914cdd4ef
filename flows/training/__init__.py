"""A recipe into a checkpoint.

recipe: what is to be trained · sources, data: what it learns from · train: ``train`` · report: curves and
pictures.
"""
