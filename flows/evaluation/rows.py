"""The rows of an evaluation, kept in a folder as they are measured: a stopped one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import UsageError
from spectile.catalog.files import write_text
from spectile.model.measure.ladder_training import Diffusion

Floats = NDArray[np.float32]

ROWS = "rows.json"
MEASURED_BY = ("catalog", "model", "flows/evaluation/protocols.py", "flows/evaluation/evaluate.py")
"""What a row depends on, below the folder of the packages."""


def code_version(root: Path = Path(__file__).parents[2]) -> str:
    """The first 12 digits of the sha256 of the code that rows are measured by, and of torch's version."""
    sha256 = hashlib.sha256(version("torch").encode())
    for name in MEASURED_BY:
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            sha256.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return sha256.hexdigest()[:12]


class Rows:
    """Scores by rung and seed, and the first seed's pictures; in a folder where there is one.

    The folder holds ``rows.json``, the arrays of each rung's picture (``RUNG.npz``) and the first seed's
    cascade as a checkpoint.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        """Read the rows in the folder.

        Raises
        ------
        UsageError : they are of another evaluation, or damaged.
        """
        self._folder, self._identity = folder, dict(identity)
        self._rows: dict[str, dict[str, Any]] = {}
        self._pictures: dict[str, dict[str, Floats]] = {}
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / ROWS).exists():
            kept = _read(folder / ROWS)
            if other := [key for key in self._identity if kept["of"].get(key) != self._identity[key]]:
                raise UsageError(
                    "the folder holds rows of another evaluation", where=str(folder / ROWS),
                    got=", ".join(f"{key} {kept['of'].get(key)}" for key in other),
                    expected=", ".join(f"{key} {self._identity[key]}" for key in other),
                    remedy="name another folder with --keep",
                )  # fmt: skip
            self._rows = kept["rows"]

    def find(self, rung: str, seed: int) -> dict[str, Any] | None:
        """The scores of a row; None where they are not there yet."""
        return self._rows.get(f"{rung}/{seed}")

    def of(self, rung: str, seeds: int) -> list[dict[str, Any]]:
        """The rows of a rung, in order of their seeds."""
        return [row for seed in range(seeds) if (row := self.find(rung, seed)) is not None]

    def add(
        self, rung: str, seed: int, facts: dict[str, Any], picture: dict[str, Floats], fitted: object
    ) -> None:
        """Keep a row."""
        self._rows[f"{rung}/{seed}"] = facts
        if seed == 0:
            self._pictures[rung] = picture
        if self._folder is None:
            return
        if seed == 0:
            np.savez_compressed(self._folder / f"{rung}.npz", **picture)  # type: ignore[arg-type]
            if isinstance(fitted, Diffusion):
                fitted.save(self._folder / rung)
        write_text(self._folder / ROWS, json.dumps({"of": self._identity, "rows": self._rows}, indent=1))

    def pictures(self, rungs: Iterable[str]) -> dict[str, dict[str, Floats]]:
        """What each rung drew under the first seed."""
        for rung in rungs:
            if rung not in self._pictures and self._folder is not None:
                with np.load(self._folder / f"{rung}.npz") as arrays:
                    self._pictures[rung] = dict(arrays)
        return {rung: self._pictures[rung] for rung in rungs}


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {"of": dict(kept["of"]), "rows": dict(kept["rows"])}
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError("the rows cannot be read", where=str(path), remedy="remove the file") from err
