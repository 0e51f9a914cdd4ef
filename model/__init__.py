"""The spectral-cascaded diffusion model. Knows no geography."""
