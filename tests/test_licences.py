"""Whatever the program runs on has a permissive licence, or one that docs/licences.md explains."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# SPDX identifiers, and the names that older packages use for the same licences.
PERMISSIVE = {
    "0BSD", "Apache", "Apache-2.0", "Apache License 2.0", "Apache Software License", "BSD", "BSD License",
    "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "ISC License (ISCL)",
    "LLVM-exception", "MIT", "MIT License", "MIT-0", "MIT-CMU", "PSF-2.0",
    "Python Software Foundation License", "Unlicense", "Zlib",
}  # fmt: skip


def runtime_closure(name: str) -> dict[str, Distribution]:
    """Every distribution that ``name`` needs to run here, by canonical name, itself left out."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [Requirement(name)]
    while pending:
        wanted = pending.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        installed = found.setdefault(key[0], distribution(key[0]))
        for line in installed.requires or []:
            needed = Requirement(line)
            extras = {"", *wanted.extras}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                pending.append(needed)
    del found[canonicalize_name(Requirement(name).name)]
    return found


def declared_licences(installed: Distribution) -> set[str]:
    """The licence names in a distribution's metadata, from the most precise field that has any."""
    metadata = installed.metadata
    for expression in metadata.get_all("License-Expression") or []:
        return set(re.split(r" AND | OR | WITH ", re.sub(r"[()]", "", expression)))
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    if classifiers:
        return {c.rsplit(" :: ", 1)[1] for c in classifiers}
    return set(metadata.get_all("License") or ["nothing"])


def reviewed() -> dict[str, str]:
    """Package pattern to declared licence, from the table of docs/licences.md."""
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, flags=re.MULTILINE)
    return {package: licence.strip() for package, licence in rows}


def test_every_runtime_dependency_is_permissive_or_reviewed() -> None:
    allowed = reviewed()
    unexplained = {
        name: sorted(licences - PERMISSIVE)
        for name, installed in runtime_closure("spectile[view]").items()
        if (licences := declared_licences(installed)) - PERMISSIVE
        and not any(fnmatch(name, pattern) for pattern in allowed)
    }
    assert not unexplained, "review these and add them to docs/licences.md"


def test_a_reviewed_licence_that_changes_is_reviewed_again() -> None:
    installed = runtime_closure("spectile[view]")
    for package, licence in reviewed().items():
        if package in installed:
            assert " / ".join(sorted(declared_licences(installed[package]))) == licence, package


def test_a_copyleft_or_unnamed_licence_is_not_permissive() -> None:
    assert not PERMISSIVE & {"GPL-3.0-or-later", "AGPL-3.0-only", "LGPL-2.1-or-later", "MPL-2.0", "nothing"}
