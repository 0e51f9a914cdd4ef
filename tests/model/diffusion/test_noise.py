import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.diffusion.noise import _normals, noise, philox4x32


def window(row: int, col: int, height: int, width: int, **settings: int) -> Tensor:
    keys = {"seed": 7, "stage": 1, "step": 3, "sample": 2, "channels": 5} | settings
    return noise(**keys, origins=torch.tensor([[row, col]]), height=height, width=width, device="cpu")[0]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_vectors(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    # Random123's kat_vectors, philox4x32 with 10 rounds.
    c0, c1, c2, c3 = (torch.tensor([[word]]) for word in counter)
    assert tuple(int(word) for word in philox4x32((c0, c1, c2, c3), key)) == expected


def test_philox_of_broadcast_counters_is_that_of_full_ones() -> None:
    rows, cols = torch.arange(5)[:, None], torch.arange(7)[None, :]
    one = torch.tensor([[9]])
    thin = philox4x32((rows, cols, one, one), (1, 2))
    full = [word.expand(5, 7).contiguous() for word in (rows, cols, one, one)]
    for a, b in zip(thin, philox4x32((full[0], full[1], full[2], full[3]), (1, 2)), strict=True):
        assert torch.equal(a, b)


@given(
    row=st.integers(-1000, 1000),
    col=st.integers(-1000, 1000),
    top=st.integers(0, 30),
    left=st.integers(0, 30),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
@settings(max_examples=30, deadline=None)
def test_a_window_is_the_crop_of_a_larger_one(
    row: int, col: int, top: int, left: int, height: int, width: int
) -> None:
    large = window(row, col, 50, 50)
    small = window(row + top, col + left, height, width)
    assert torch.equal(small, large[:, top : top + height, left : left + width])


def test_windows_of_a_batch_are_those_asked_for_alone() -> None:
    origins = torch.tensor([[-3, 5], [100, -200], [4_000_000, 17]])
    batch = noise(
        seed=7, stage=1, step=3, sample=2, channels=5, origins=origins, height=6, width=9, device="cpu"
    )
    for got, (row, col) in zip(batch, origins.tolist(), strict=True):
        assert torch.equal(got, window(row, col, 6, 9))


def test_fewer_channels_are_the_first_of_more() -> None:
    assert torch.equal(window(0, 0, 8, 8, channels=3), window(0, 0, 8, 8, channels=11)[:3])


def test_seed_stage_step_sample_and_channel_each_give_independent_noise() -> None:
    fields = [
        window(0, 0, 64, 64),
        *(window(0, 0, 64, 64, **{name: 11}) for name in ("seed", "stage", "step", "sample")),
    ]
    flat = torch.cat([field.flatten(1) for field in fields]).double()
    correlation = torch.corrcoef(flat) - torch.eye(len(flat))
    # 300 correlations of 4096 pairs, sd 1/64 each: 5 sd is passed by chance once in 6,000 choices of seed.
    assert correlation.abs().max() < 5 / 64


def test_values_are_standard_normal_and_uncorrelated_in_space() -> None:
    values = window(-100, -100, 256, 256, channels=16).double()
    count = values.numel()
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / count) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / count) ** 0.5
    for shift, axis in itertools.product((1, 2, 16), (0, 1, 2)):
        if shift < values.shape[axis]:
            assert abs((values * values.roll(shift, axis)).mean()) < 5 / count**0.5


@pytest.mark.parametrize(
    ("name", "value"), [("seed", -1), ("seed", 1 << 32), ("step", 1 << 16), ("sample", -1)]
)
def test_a_key_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=name):
        window(0, 0, 2, 2, **{name: value})


def test_windows_and_channels_at_once_are_as_one_after_the_other() -> None:
    """An accelerator makes them at once, a processor piece by piece."""
    origins, size = torch.tensor([[-3, 5], [40, -7], [0, 2**31]]), (6, 9)
    loop = noise(
        seed=5, stage=2, step=3, sample=1, channels=7, origins=origins, height=size[0], width=size[1],
        device="cpu", level=2,
    )  # fmt: skip
    rows, cols = (
        (origins[:, axis, None] + torch.arange(extent)) & 0xFFFFFFFF for axis, extent in enumerate(size)
    )
    groups, last = (2 << 16) | torch.arange(2), torch.tensor((1 << 16) | 3)
    assert torch.equal(_normals(rows, cols, groups, last, (5, 2))[:, :7], loop)
