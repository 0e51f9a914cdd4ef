"""A cube's arrays, opened only if they match its plan, because a cube may come from anybody.

What a store claims decides how much memory reading it takes. So the shape, type, chunks and codecs of
every array are held against the plan before a number is read, and the plan itself is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import zarr

from spectile.catalog.errors import CubeError
from spectile.pipeline.geometry.levels import Level
from spectile.pipeline.plan.arrays import ArrayLayout, ArraySpec, cube_arrays
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.base import Storage

CODECS = {"bytes", "blosc", "zstd", "crc32c", "sharding_indexed", "vlen-utf8"}
"""Those that arrays of a cube are made with."""

_DAMAGE = (
    LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError,
    FileNotFoundError, ImportError, SystemError,
)  # fmt: skip
"""What zarr, xarray, codecs and our own reading raise over metadata and bytes that are no cube's."""


def open_arrays(
    storage: Storage, plan: Plan, *, consolidated: bool, levels: Sequence[Level] | None = None
) -> Any:
    """The cube's group, opened by zarr, in which every array is what the plan says.

    Parameters
    ----------
    levels : whose arrays are looked at; None is the cube itself without its overviews.
    consolidated : whether the metadata are read from the group's own, as those of a finished cube can be.

    Raises
    ------
    CubeError : an array is missing, or is another; or what is said of it cannot be read.
    StoreError : the store cannot be read.
    """
    with reading_metadata(storage):
        group: Any = zarr.open_group(
            storage.zarr(read_only=True), mode="r", use_consolidated=None if consolidated else False
        )
        for level in plan.levels[:1] if levels is None else levels:
            for spec in cube_arrays(plan).values():
                key = level.key(spec.name)
                _check(group[key], spec, spec.layout(plan, level.shape), f"{storage} {key}")
    return group


def _check(array: Any, spec: ArraySpec, expected: ArrayLayout, where: str) -> None:
    # Any: zarr types metadata as those of either version.
    if not isinstance(array, zarr.Array) or array.metadata.zarr_format != 3:
        raise CubeError("not an array of Zarr v3", where=where, remedy="see spectile verify --repair")
    metadata: Any = array.metadata
    dimensions = tuple(metadata.dimension_names or ())
    dtype = "string" if array.dtype.kind == "T" else str(array.dtype)
    layout = ArrayLayout(dimensions, array.shape, dtype, array.chunks, array.shards)
    if layout != expected:
        differing = [
            field.name for field in fields(layout)
            if getattr(layout, field.name) != getattr(expected, field.name)
        ]  # fmt: skip
        raise CubeError(
            "the array is not the plan's", where=where,
            got=", ".join(f"{name} {getattr(layout, name)}" for name in differing),
            expected=", ".join(f"{name} {getattr(expected, name)}" for name in differing),
            remedy="see spectile verify --repair",
        )  # fmt: skip
    packing = {name: array.attrs.get(name) for name in spec.packing}
    if packing != spec.packing:
        raise CubeError(
            "the array's scale, offset or fill value is not the plan's", where=where, got=str(packing)[:200],
            expected=str(spec.packing), remedy="see spectile verify --repair",
        )  # fmt: skip
    if others := _names(metadata.to_dict()["codecs"]) - CODECS:
        raise CubeError(
            "a codec that cubes do not use", where=where, got=min(others), expected=", ".join(sorted(CODECS))
        )


def _names(codecs: Any) -> set[str]:
    """The names of codecs, and of those inside them."""
    names = set()
    for codec in codecs:
        names.add(str(codec["name"]))
        inner = codec.get("configuration") or {}
        names |= _names([*inner.get("codecs", ()), *inner.get("index_codecs", ())])
    return names


@contextmanager
def reading_metadata(where: object) -> Iterator[None]:
    """Turn errors over damaged or hostile metadata into a CubeError.

    Raises
    ------
    CubeError : a value is missing, or of another kind or size than it can be.
    """
    try:
        yield
    except _DAMAGE as err:
        raise CubeError(
            "the cube's metadata are damaged", where=str(where),
            got=f"{type(err).__name__}: {str(err)[:200]}", remedy="see spectile verify --repair",
        ) from err  # fmt: skip


@contextmanager
def readable(where: object, what: str = "cube") -> Iterator[None]:
    """Turn what zarr and its codecs raise over foreign metadata and bytes into an error of one line.

    Raises
    ------
    CubeError : something inside cannot be read.
    """
    try:
        yield
    except _DAMAGE as err:
        got = f"{type(err).__name__}: {err}"[:200]
        raise CubeError(f"the {what} cannot be read", where=str(where), got=got) from err
