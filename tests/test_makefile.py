"""What the Makefile would run, by a dry run of make: nothing is installed and no test is started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INDEX = "https://index.example/whl/cpu"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def would_run(*arguments: str, folder: Path = ROOT) -> str:
    """The commands of a dry run, as make prints them, in a folder where nothing is installed yet."""
    clean = {name: value for name, value in os.environ.items() if name not in ("TORCH_INDEX", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=folder, env=clean, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with what make reads, and no .venv."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def pip_calls(text: str) -> list[str]:
    """Each call of pip in a text of commands, joined over continued lines."""
    return re.findall(r"pip install.*?(?=&&|\n|$)", text.replace("\\\n", " "))


@pytest.mark.parametrize("target", ["demo", "install"])
def test_torch_alone_is_asked_of_its_index_and_first(fresh, target):
    first, second = pip_calls(would_run(target, f"TORCH_INDEX={INDEX}", folder=fresh))
    assert "--index-url" in first
    assert "torch" in first.split("--index-url")[1]
    assert "--no-deps" in first  # its dependencies are in the ordinary index, with all the rest
    assert "--editable" not in first
    assert "index" not in second
    assert "--editable ." in second.replace("'", "")


def test_without_an_index_of_torch_there_is_one_call_of_pip(fresh):
    (call,) = pip_calls(would_run("install", folder=fresh))
    assert "index" not in call


def test_the_address_of_an_index_is_not_printed(fresh):
    assert INDEX not in would_run("install", f"TORCH_INDEX={INDEX}", folder=fresh)


def test_the_constraints_pin_one_torch_without_a_local_version():
    (pin,) = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
    ]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", pin)


def test_every_target_that_is_no_file_is_phony_and_documented():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    documented = re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)
    assert sorted(phony.split()) == sorted(documented)


def test_ci_runs_the_readmes_test_command_and_then_only_the_rest():
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    made = [line.split()[1] for line in lines if line.startswith("make ")]
    assert made == ["lint", "test", "slow"]
    assert "make test" in lines, "with nothing added"
    quick, slow = would_run("test"), would_run("slow")
    assert '-m "not slow"' in quick
    assert "-m slow" in slow
    assert "make test" in (ROOT / "README.md").read_text()
