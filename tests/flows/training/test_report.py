"""Lines and pictures of a training run, and the page that names every key."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.flows.training.recipe import Recipe
from spectile.flows.training.report import draw_curves, draw_samples, record_line, table_rows
from spectile.flows.training.sources import (
    EvenBands,
    LibrarySource,
    ResponseSource,
    SceneSource,
    SimulatedScenes,
    Sources,
)
from spectile.flows.training.train import _log_of
from spectile.model.data.crops import Augmentation

LOSS = {"step": 25, "of": 100, "first": 0.5, "second": 0.25, "seconds_a_step": 2.0}
CHECK = {"step": 50, "mean_rmse": 0.03}


def test_a_record_is_a_line_with_the_time_left() -> None:
    assert record_line(LOSS) == "step 25 of 100: first 0.5, second 0.25, 2 min left"
    assert record_line(CHECK) == "step 50 validated: mean_rmse 0.03"


def test_what_was_repeated_after_an_interruption_counts_once(tmp_path: Path) -> None:
    again = {**LOSS, "first": 0.4}
    records = [LOSS, {**LOSS, "step": 50}, CHECK, again]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert _log_of(tmp_path) == [again, {**LOSS, "step": 50}, CHECK]


@pytest.mark.parametrize("records", [[], [LOSS], [LOSS, {**LOSS, "step": 50}, CHECK]])
def test_curves_are_a_picture_from_the_first_record_on(
    tmp_path: Path, records: list[dict[str, float]]
) -> None:
    draw_curves(tmp_path / "curves.png", records)
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[0] > 300
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_samples_have_a_row_for_each_crop_and_false_colours(tmp_path: Path) -> None:
    truth = np.zeros((2, 48, 16, 16), np.float32)
    truth[:, VNIR48.nearest(860)] = 0.5  # shown as red
    known = np.ones((2, 48), bool)
    known[1, :20] = False
    for count in (1, 2):
        draw_samples(
            tmp_path / f"{count}.png", bands=VNIR48, response=RGB_CAMERA, truth=truth[:count],
            rgb=np.full((count, 3, 16, 16), 0.1, np.float32), known=known[:count],
            sample=truth[:count], mean=truth[:count], title="crops",
        )  # fmt: skip
    one, two = (imread(tmp_path / f"{count}.png") for count in (1, 2))
    assert two.shape[0] > 1.5 * one.shape[0]
    red = (one[..., 0] > 0.9) & (one[..., 1] < 0.1) & (one[..., 2] < 0.1)
    assert red.mean() > 0.1


def test_the_table_has_a_row_for_each_predictor() -> None:
    scores = {"rmse": 0.1, "sam": 0.2}
    assert table_rows({"a": {"ridge": scores, "samples": 4, "coverage": {"50": 0.4}}}) == [
        {"scenes": "a", "predictor": "ridge", **scores}
    ]


def test_the_page_names_every_key_of_a_recipe() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    forms = (
        Recipe,
        Sources,
        SceneSource,
        LibrarySource,
        SimulatedScenes,
        ResponseSource,
        EvenBands,
        Augmentation,
    )
    missing = {
        f"{form.__name__}.{entry.name}"
        for form in forms
        for entry in fields(form)
        if f"`{entry.name}`" not in page and f"`{entry.name} = " not in page
    }
    assert not missing
