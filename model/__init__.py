"""The spectral-cascaded diffusion model. Knows no geography."""

import ctypes
import os

# Threads that spin while they wait made a run ten times slower when another process used the same two cores
# (110 s against 11 s). libgomp reads this when torch is loaded. Only this package loads torch, so this line
# always comes before it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tensors of a tile are large, and are asked for again and again. With pages of 2 MB instead of 4 kB less time
# goes into making them (23.2 s a megapixel of `vnir48` against 18.0). torch reads this when it first needs
# memory.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next tile, where it is glibc.

    It would give arrays of this size back to the system at once, which then makes every page anew, zeroed:
    a quarter to a half of the time of a tile where that is slow, as in virtual machines. One arena for all
    threads, since the others may hold no array of more than 64 MB.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1
    for option, value in ((arena_max, 1), (mmap_threshold, 1 << 30), (trim_threshold, 2**31 - 1)):
        if tell is not None:
            tell(option, value)


_keep_freed_memory()
