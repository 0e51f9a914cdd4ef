"""Closed forms: what needs no network.

closed_form: the mean of the cascade · baselines: ridge and nearest neighbours.
"""
