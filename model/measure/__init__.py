"""How good and how fast models are.

metrics, scores: errors, and the spread of samples · evaluation: held-out strips · benchmark: operations and
seconds · ladder*: the baselines of every table.
"""
