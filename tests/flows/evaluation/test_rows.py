"""Rows that are kept go together only if the same code measured them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.flows.evaluation.rows import MEASURED_BY, Rows, code_version


def _tree(root: Path) -> Path:
    for name in MEASURED_BY:
        path = root / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a = 1\n")
        else:
            path.mkdir(parents=True)
            (path / "part.py").write_text("b = 2\n")
    return root


def test_every_module_that_measures_is_part_of_the_version(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    versions = [code_version(root)]
    for path in sorted(root.rglob("*.py")):
        path.write_text(path.read_text() + "# changed\n")
        versions.append(code_version(root))
    (root / "model" / "new.py").write_text("")
    versions.append(code_version(root))
    assert len(set(versions)) == len(versions) > 4
    (root / "model" / "weights.bin").write_bytes(b"not code")
    assert code_version(root) == versions[-1]


def test_rows_of_other_code_are_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path / "code")
    Rows(tmp_path, {"code": code_version(root)}).add("mean", 0, {"rmse": 1.0}, {}, None)
    assert Rows(tmp_path, {"code": code_version(root)}).find("mean", 0) == {"rmse": 1.0}
    (root / "model" / "part.py").write_text("b = 3\n")
    with pytest.raises(UsageError, match=r"of another evaluation.*got code .*expected code"):
        Rows(tmp_path, {"code": code_version(root)})
