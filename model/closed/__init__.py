"""Closed forms: estimates without a network.

closed_form: the mean of the cascade · regressions: of single pixels · baselines: those that
a checkpoint carries.
"""
