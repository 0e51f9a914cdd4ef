"""A sample of the damaged and odd files of ``benchmarks.fuzz``: each is made, refused or named."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_no_damaged_or_odd_file_does_what_none_may(tmp_path):
    facts = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "benchmarks.fuzz", "--count", "40", "--seed", "1"]
    command += ["--seconds", "600", "--out", str(facts)]
    # In a process of its own: it forks, and this one has threads.
    done = subprocess.run(command, capture_output=True, text=True)
    trials = json.loads(facts.read_text())
    assert len(trials) == 40
    assert [each for each in trials if each["outcome"] not in ("accepted", "refused", "damage named")] == []
    assert done.returncode == 0, done.stderr
    assert {"accepted", "refused"} <= {each["outcome"] for each in trials}
