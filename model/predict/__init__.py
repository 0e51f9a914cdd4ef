"""Models as the pipeline sees them; the only boundary between numpy and torch.

predictor: ``load_predictor`` · network: of a system · regression: closed forms ·
acceleration: dtype, memory layout, compilation.
"""
