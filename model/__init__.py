"""The spectral-cascaded diffusion model. Knows no geography."""

import os

# Threads that spin while they wait made a run ten times slower when another process used the same two cores
# (110 s against 11 s). libgomp reads this when torch is loaded. Only this package loads torch, so this line
# always comes before it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tensors of a tile are large, and are asked for again and again. With pages of 2 MB instead of 4 kB less time
# goes into making them (23.2 s a megapixel of `vnir48` against 18.0). torch reads this when it first needs
# memory.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
