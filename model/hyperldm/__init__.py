"""HyperLDM (Liu et al. 2023): a conditional VQGAN, and a diffusion of its latent code.

preset: configurations, the published one with its sources · endmembers: the choice of a library ·
layers: what the networks are made of ·
autoencoder: the conditional VQGAN · discriminators: its opponents · latent_unet: the denoiser ·
losses · network: sampling · steps: one step of training · train: a whole one · system: its entry in the
registry.
"""
