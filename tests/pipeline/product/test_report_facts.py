"""A report tells nothing of the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spectile.pipeline.product.report_facts import LIMITS, shown


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/home/me/scenes/a.tif: uint8 is", "a.tif: uint8 is"),
        (r"C:\scans\line 1\a.tif is", r"1\a.tif is"),
        ("https://user:pw@host/a/b.tif?token=1 is", "https://host/a/b.tif?… is"),
        ("metre / second, 3/4 of it", "metre / second, 3/4 of it"),
    ],
)
def test_folders_and_secrets_are_left_out(said, told):
    assert "token" not in shown(said)
    assert shown(said) == told or told in shown(said)


def test_the_limits_say_what_the_spectra_are_not_for():
    for use in ("minerals", "detect a target", "calibrate", "evidence"):
        assert use in LIMITS.split("They are of use")[0]


def test_a_report_without_a_count_has_no_valid_pixel(facts):
    assert facts.valid_pixels == 0, "only runs count"
    counted = replace(facts, view=replace(facts.view, facts={**facts.view.facts, "valid_pixels": 7}))
    assert counted.valid_pixels == 7
