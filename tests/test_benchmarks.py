"""The scripts of ``benchmarks/`` as ``make bench`` starts them: without arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
NEED_DATA = ("ablation", "cover", "cover_classifier", "houston_crop", "solver")


def start(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "SPECTILE_DATA"}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=ROOT, env={**clean, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NEED_DATA)
def test_a_benchmark_of_real_imagery_says_in_a_line_what_it_needs(name):
    done = start(ROOT / "benchmarks" / f"{name}.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "left out: it needs real imagery; set SPECTILE_DATA to its folder"


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_no_benchmark_asks_for_an_argument(script):
    assert "required=True" not in script.read_text()


@pytest.mark.slow
@pytest.mark.data
def test_the_ladder_leaves_the_cascade_that_the_solvers_are_tried_on(data_dir, tmp_path):
    """With the options of its small run; the others take minutes, and ``make bench`` runs them."""
    small = ("--rungs", "ridge,cascade", "--seeds", "1", "--samples", "4", "--training-steps", "20")
    done = start(ROOT / "benchmarks/houston_crop.py", str(tmp_path), *small, SPECTILE_DATA=str(data_dir))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evaluation.json").is_file()
    assert (tmp_path / "cascade").is_dir()
