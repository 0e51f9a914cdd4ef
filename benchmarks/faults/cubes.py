"""Whether two cubes are the same: every byte but what tells of a run, and every decoded value."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spectile.pipeline.cube import ledger
from spectile.pipeline.product.quicklook import quicklook_names
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

RUN_TIME = ("seconds", "tiles", "tiles_kept", "checksum")
"""What a marker tells of the run that made the block, and its checksum, which covers that."""


def objects(place: str) -> dict[str, bytes]:
    """All objects of a cube but leases, and its pictures; on files what is no object too."""
    storage = open_storage(place)
    found = {key: storage.get(key) or b"" for key in storage.walk() if not ledger.is_lease(key)}
    if "://" not in place:
        found |= {f"hidden {path.name}": b"" for path in Path(place).rglob(".*") if path.is_file()}
    for kind, name in zip(("png", "tif"), quicklook_names(storage.name), strict=True):
        found[f"quicklook {kind}"] = storage.parent.get(name) or b""
    return found


def everything(place: str) -> dict[str, str]:
    """A hash of every object, leases included, and on files the time of its last change."""
    storage = open_storage(place)
    found = {key: storage.get(key) or b"" for key in storage.walk()}
    found |= {name: storage.parent.get(name) or b"" for name in quicklook_names(storage.name)}
    facts = {key: hashlib.blake2b(value).hexdigest() for key, value in found.items()}
    if "://" not in place:
        for path in Path(place).rglob("*"):
            facts[f"time {path}"] = str(path.stat().st_mtime_ns if path.is_file() else "")
    return facts


def differences(reference: str, place: str) -> list[str]:
    """How a cube differs from the reference; empty where it does not."""
    here, there = objects(reference), objects(place)
    found = [f"{key} is only in one of them" for key in sorted(here.keys() ^ there.keys())]
    for key in sorted(here.keys() & there.keys()):
        if _lasting(key, here[key]) != _lasting(key, there[key]):
            found.append(f"{key} differs")
    return found or _values(open_storage(reference), open_storage(place))


def _lasting(key: str, value: bytes) -> Any:
    if key == "quicklook png":  # not drawn here
        return bool(value)
    if not key.startswith("ledger/") or key.endswith(("plan.json", "zarr.json")):
        return value
    return {name: fact for name, fact in json.loads(value).items() if name not in RUN_TIME}


def _values(here: Storage, there: Storage) -> list[str]:
    one, two = (dict(_arrays(storage)) for storage in (here, there))
    if one.keys() != two.keys() or "reflectance" not in one:
        return ["the arrays are others"]
    return [f"the values of {name} differ" for name in one if not _same(one[name][...], two[name][...])]


def _same(one: Any, two: Any) -> bool:
    one, two = np.asarray(one), np.asarray(two)
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def _arrays(storage: Storage) -> list[tuple[str, Any]]:
    group: Any = zarr.open_group(storage.zarr(read_only=True), mode="r")
    return [(name, each) for name, each in group.members(max_depth=None) if isinstance(each, zarr.Array)]
