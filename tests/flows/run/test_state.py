"""What is known of a run on its way."""

import subprocess
import sys

import numpy as np

from spectile.flows.run import state


def test_what_a_process_held_before_it_started_another_is_not_the_others_peak():
    held = np.ones(60_000_000)  # 480 MB
    code = "from spectile.flows.run.state import peak_memory_bytes; print(peak_memory_bytes())"
    peak = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    assert 50_000_000 < peak < held.nbytes
    assert state.peak_memory_bytes() > held.nbytes
