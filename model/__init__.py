"""The spectral-cascaded diffusion model. Knows no geography."""

import os

# Threads that spin while they wait made a run ten times slower where another process wanted the same two
# cores (110 s against 11 s). libgomp reads this when torch is loaded, which this package alone does; so
# this is the one place that comes before it, whichever door a process comes in by.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
