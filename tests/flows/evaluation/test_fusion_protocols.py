"""Scenes are cut as the papers say, into parts that share no pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spectile.catalog.errors import SceneError
from spectile.flows.evaluation.fusion_protocols import (
    FUSION_PROTOCOLS,
    Parts,
    cut_cave,
    cut_chikusei,
    cut_halves,
    cut_paviau,
    cut_sdp,
)


def numbered(rows: int, cols: int) -> np.ndarray:
    return np.arange(rows * cols, dtype=np.int32).reshape(1, rows, cols)


@pytest.mark.parametrize(
    ("cut", "shape", "tests"),
    [
        (cut_sdp, (610, 340), [(256, 256)]),
        (cut_paviau, (610, 340), [(128, 128)]),
        (cut_chikusei, (2517, 2335), [(512, 512)] * 8),
        (lambda scenes: cut_halves(scenes, 8), (101, 99), [(96, 48)]),
    ],
)
def test_what_is_tested_is_never_learned_from(
    cut: Callable[[list[np.ndarray]], Parts], shape: tuple[int, int], tests: list[tuple[int, int]]
) -> None:
    parts = cut([numbered(*shape)])
    assert parts.whole
    assert [test.shape[1:] for test in parts.tests] == tests
    uses = np.zeros(shape[0] * shape[1], dtype=np.int8)
    for test in parts.tests:
        uses[test] += 1
    assert uses.max() == 1
    assert all((uses[part] == 0).all() for part in parts.training)


def test_the_published_crops_lie_where_the_papers_say() -> None:
    scene = numbered(610, 340)
    sdp = cut_sdp([scene])
    np.testing.assert_array_equal(sdp.tests[0], scene[:, 256:512, :256])
    np.testing.assert_array_equal(sdp.training[0], scene[:, :256, :256])
    paviau = cut_paviau([scene])
    np.testing.assert_array_equal(paviau.tests[0], scene[:, :128, :128])
    assert sum(part.size for part in paviau.training) == 610 * 340 - 128**2
    chikusei = cut_chikusei([numbered(2517, 2335)])
    assert chikusei.training[0].shape == (1, 1024, 2048)
    first, last = chikusei.training[0][0, 0, 0], chikusei.tests[-1][0, -1, -1]
    assert divmod(int(first), 2335) == (234, 143)
    assert divmod(int(last), 2335) == (234 + 2047, 143 + 2047)


def test_twenty_scenes_of_cave_are_learned_from_and_twelve_tested() -> None:
    scenes = [np.full((1, 512, 512), number) for number in range(32)]
    parts = cut_cave(scenes)
    assert [int(part[0, 0, 0]) for part in (*parts.training, *parts.tests)] == list(range(32))
    assert (len(parts.training), len(parts.tests), parts.whole) == (20, 12, True)
    fewer = cut_cave(scenes[:8])
    assert (len(fewer.training), len(fewer.tests), fewer.whole) == (5, 3, False)
    with pytest.raises(SceneError, match="too few scenes"):
        cut_cave(scenes[:1])


def test_smaller_scenes_are_cut_alike_and_said_to_be_smaller() -> None:
    parts = cut_sdp([numbered(100, 60)])
    assert (parts.training[0].shape, parts.tests[0].shape, parts.whole) == ((1, 48, 56), (1, 48, 56), False)
    with pytest.raises(SceneError, match="too small for the protocol"):
        cut_chikusei([numbered(40, 400)])


@pytest.mark.parametrize("name", list(FUSION_PROTOCOLS))
def test_each_protocol_has_its_bands_its_papers_rows_and_their_sources(name: str) -> None:
    protocol = FUSION_PROTOCOLS[name]
    assert all(len(bands) == count for count, bands in protocol.of_bands.items())
    assert set(protocol.of_bands) == (set(protocol.bands) if name != "dc" else set())
    assert any(row.tgt for row in protocol.paper)
    assert all(10 < row.scores["psnr"] < 60 for row in protocol.paper)
    known = {letter for text in protocol.sources.values() for letter in "PCI" if f"{letter}:" in f"{text}:"}
    assert known >= {"P", "I"}
