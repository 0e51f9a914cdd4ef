"""The networks: plain torch modules without schedules or scenes.

unet_compact: of the default model · unet_shared_encoder: of SCDM · cdformer: of HSR-Diff ·
spectral_mlp: of SDP · mst_plus_plus, hscnn_plus, pixel_mlp: baselines.
"""
