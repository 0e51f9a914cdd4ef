"""One block: its tiles, what the network makes of them, their blended sum.

predict: the protocol ``Predictor`` and a stand-in · mosaic: ``mosaic_block``.
"""
