"""How much errors grow in places without training data, measured by leaving out each place in turn.

Validation strips lie beside training columns, so intervals calibrated on them are too narrow in every other
place. A user's scene is like a new place, so whole places are held out (grouped cross-validation, Roberts et
al. 2017). A training without each place would take too long. The closed form is fitted again in seconds, and
in new places the networks add nothing to it on average (docs/evaluation.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from spectile.model.cascade.cascade import SpectralCascade
from spectile.model.cascade.means import fit_means
from spectile.model.cascade.spread import CALIBRATION_CROPS
from spectile.model.data.crops import CropSource, Floats, TrainingScene
from spectile.model.training.run import generator_of

if TYPE_CHECKING:
    from spectile.model.cascade.config import TrainConfig

MOST_SITES = 8
"""Places that are left out; each is a fit of half a minute."""


class SiteErrors(NamedTuple):
    """RMSE on the validation crops of a place, reflectance."""

    own: float
    """RMSE of the model's mean, which was trained there."""
    left_out: float
    """RMSE of the closed form without that place."""


@torch.inference_mode()
def leave_sites_out(
    model: SpectralCascade,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    config: TrainConfig,
    fill: Floats,
) -> dict[str, SiteErrors]:
    """The errors of places that have validation scenes, and without which the model can be fitted.

    Parameters
    ----------
    model : the trained cascade.
    scenes, validation : what it was trained on and watched by.
    config : how it was trained.
    fill : (3,) what masked pixels of its input hold.
    """
    cascade = model.config
    sites = sorted({scene.site for scene in validation} - {""})
    errors = {}
    for site in sites[:: math.ceil(len(sites) / MOST_SITES) or 1]:
        rest = [scene for scene in scenes if scene.site != site]
        if len(rest) == len(scenes) or not rest:
            continue
        source = CropSource(rest, cascade.bands, cascade.response)
        if not any(source.complete):
            continue
        fitted = SpectralCascade(cascade).eval()
        fit_means(fitted, source, config)
        strips = [scene for scene in validation if scene.site == site]
        watch = CropSource(strips, cascade.bands, cascade.response, fill)
        batch = watch.every_pixel((config.seed, 8), size=config.crop, crops=CALIBRATION_CROPS)
        draw = model.drawn_by(generator_of(config.seed, 5, 0), len(batch.rgb), *batch.rgb.shape[2:])
        own, left_out = model.sample(batch.rgb, draw, steps=1), fitted.closed_form(batch.rgb)
        errors[site] = SiteErrors(batch.rmse(own), batch.rmse(left_out))
    return errors


def site_factor(errors: Mapping[str, SiteErrors]) -> float:
    """How much errors grow in a new place: the geometric mean over places, each at least one."""
    if not errors:
        return 1.0
    ratios = [max(site.left_out / site.own, 1.0) for site in errors.values()]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
