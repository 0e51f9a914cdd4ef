"""Bfloat16 and compiled networks against the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.networks.unet_compact import CompactUNet, fold, unfold
from spectile.model.networks.unet_shared_encoder import SharedEncoderConfig, SharedEncoderUNet
from spectile.model.predict import acceleration
from spectile.model.predict.acceleration import accelerate, denoisers, has_bfloat16, resolve_dtype
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor

SIDE = 64


def _predict(predictor: NetworkPredictor, count: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(3, SIDE, SIDE)), 1), 2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    rgb = (0.03 + 0.3 * smooth + 0.01 * rng.random((3, SIDE, SIDE))).astype(np.float32)
    tiles = np.stack([np.roll(rgb, 7 * index, 1) for index in range(count)])
    origins = np.array([(0, SIDE * index) for index in range(count)], np.int64)
    return next(predictor.predict(Batch.of_colours(tiles, origins=origins), range(1)))


def test_bfloat16_moves_the_shipped_model_by_less_than_a_stored_count_on_average() -> None:
    # Only the networks compute in it: eight bits of mantissa are 0.4 % of a residual of some 0.03, or 1e-4,
    # the store's own resolution. Closed forms in bfloat16 would be 0.4 % of the reflectance itself.
    exact = _predict(load_predictor("vnir48", device="cpu", dtype="float32"))
    half = _predict(load_predictor("vnir48", device="cpu", dtype="bfloat16"))
    error = np.abs(half - exact)
    assert 0 < np.sqrt(np.square(error).mean()) < 3e-4
    assert error.max() < 0.02


@pytest.mark.parametrize("dtype", acceleration.DTYPES)
def test_a_tile_does_not_depend_on_its_batch_to_the_last_bit(dtype: str) -> None:
    alone = _predict(load_predictor("vnir48", device="cpu", batch=1, dtype=dtype), 1)
    together = _predict(load_predictor("vnir48", device="cpu", batch=3, dtype=dtype), 3)
    assert np.array_equal(alone[0], together[0])


def test_a_host_that_lacks_bfloat16_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert has_bfloat16("cpu") is native
        assert resolve_dtype("auto", "cpu", tried=True) == expected
        assert resolve_dtype("auto", "cpu", tried=False) == "float32"
        assert load_predictor("vnir48", device="cpu", dtype="auto").settings["dtype"] == expected


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown dtype \(got float16, expected auto, float32, bfloat16\)"):
        resolve_dtype("float16", "cpu", tried=True)


def test_the_published_network_gives_float32_and_keeps_its_features_in_bfloat16() -> None:
    sizes = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,), "groups": 4}
    torch.manual_seed(0)
    network = SharedEncoderUNet(
        SharedEncoderConfig(channels=6, condition_channels=3, time_width=16, **sizes)  # type: ignore[arg-type]
    ).eval()
    state, condition, time = torch.randn(1, 6, 16, 16), torch.randn(1, 3, 16, 16), torch.tensor([5.0])

    def forward() -> tuple[list[Tensor], Tensor]:
        features = network.encode_condition(condition, time)
        return features, network.predict(state, time, features)

    with torch.inference_mode():
        _, exact = forward()
        accelerate(network, device="cpu", dtype="bfloat16", compiled=False)
        features, out = forward()
    assert {each.dtype for each in features} == {torch.bfloat16}
    assert out.dtype == torch.float32
    assert 0 < (out - exact).abs().max() < 0.05 * exact.std()


def _tiny() -> SpectralCascade:
    torch.manual_seed(0)
    stages = StageConfig(2, 8, 1, 8, kernels=16), StageConfig(3, 8, 1, 8)
    model = SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=stages)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("basis"):
            torch.nn.init.normal_(buffer, std=0.05)
    return model


def _sample(model: SpectralCascade, rgb: Tensor) -> Tensor:
    def draw(stage: int, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(stage)
        channels = model.stage(stage).config.components
        return torch.randn((len(rgb), channels, *rgb.shape[2:]), generator=generator)

    with torch.inference_mode():
        return model.sample(rgb, draw, steps=2)


def test_a_compiled_network_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced and lowered, in one graph, and run without the C++ compiler, which takes a minute.
    compile_ = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda call, dynamic: compile_(call, dynamic=dynamic, backend="aot_eager", fullgraph=True),
    )
    model = _tiny()
    (network,) = denoisers(model.stage(0))
    assert isinstance(network, CompactUNet)
    state, time = torch.randn(1, network.config.components, 16, 16), torch.tensor([500.0])
    condition = torch.randn(1, network.config.condition_channels, 16, 16)

    def forward() -> Tensor:
        correction, features = network.encode(fold(condition))
        return torch.cat([unfold(correction), network(state, time, features)], dim=1)

    with torch.inference_mode():
        expected = forward()
        accelerate(network, device="cpu", dtype="float32", compiled=True)
        found = forward()
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_host_without_a_compiler_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed(fail, RuntimeError("No C++ compiler\nis here"), None)

    monkeypatch.setattr(torch, "compile", lambda call, dynamic: fail)
    model = _tiny()
    accelerate(model, device="cpu", dtype="float32", compiled=True)
    with pytest.raises(
        UsageError, match=r"cannot compile .*No C\+\+ compiler.*; leave out --compile"
    ) as caught:
        _sample(model, torch.full((1, 3, 16, 16), 0.2))
    assert "\n" not in str(caught.value)
