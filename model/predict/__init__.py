"""Models as the pipeline sees them; the only boundary between numpy and torch.

predictor: ``load_predictor`` · regression: closed forms · acceleration: dtype, memory layout, compilation.
"""
