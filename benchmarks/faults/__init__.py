"""The fault campaign; ``python -m benchmarks.faults --help``."""

import os

# Before anything imports numpy: a process that has threads cannot be forked.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["MPLBACKEND"] = "Agg"
