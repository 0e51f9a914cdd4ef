"""How good and how fast models are.

metrics, scores: errors, and what samples know of them · evaluation: held-out strips · benchmark: operations
and seconds · ladder*: the baselines of every table.
"""
