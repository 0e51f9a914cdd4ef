"""The spectral-cascaded diffusion model. Knows no geography."""

import os

# Threads that spin while they wait made a run ten times slower when another process used the same two cores
# (110 s against 11 s). libgomp reads this when torch is loaded. Only this package loads torch, so this line
# always comes before it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
