"""How to train, as recipes may say it."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from pydantic import TypeAdapter, ValidationError

from spectile.model.cascade.config import TrainConfig

CHECK = TypeAdapter(TrainConfig)


def test_the_defaults_are_settings_that_can_be_given() -> None:
    assert CHECK.validate_python(asdict(TrainConfig())) == TrainConfig()


def test_the_edges_can_be_given() -> None:
    edges = {"steps": 1, "warmup": 0, "ema_decay": 1.0, "angle": 0.0, "coarse_noise": 0.0, "seed": 2**32 - 1}
    assert asdict(CHECK.validate_python(edges)).items() >= edges.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch", 0), ("crop", 2.5), ("learning_rate", 0.0), ("learning_rate", float("inf")),
        ("warmup", -1), ("weight_decay", -1e-9), ("ema_decay", 1.001), ("condition_dropout", -0.1),
        ("angle", float("nan")), ("seed", 2**32), ("log_every", 0), ("validate_every", 0),
    ],
)  # fmt: skip
def test_what_cannot_train_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        CHECK.validate_python({name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]
