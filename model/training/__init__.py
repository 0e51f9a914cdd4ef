"""What every training needs.

run: steps, resuming, checkpoints · ema: the moving average of weights.
"""
