"""How much errors grow in places without training data, measured by leaving out each place in turn.

Validation strips lie beside training columns, so intervals calibrated on them are too narrow in every other
place. A user's scene is like a new place, so whole places are held out (grouped cross-validation, Roberts et
al. 2017). A training without each place would take too long. The closed form without each is there already,
and in new places the networks add nothing to it on average (docs/evaluation.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from spectile.model.cascade.cascade import SpectralCascade
from spectile.model.cascade.means import Means
from spectile.model.cascade.spread import CALIBRATION_CROPS
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.training.run import generator_of

if TYPE_CHECKING:
    from spectile.model.cascade.config import TrainConfig


class SiteErrors(NamedTuple):
    """RMSE on the validation crops of a place, reflectance."""

    own: float
    """RMSE of the model's mean, which was trained there."""
    left_out: float
    """RMSE of the closed form without that place."""


@torch.inference_mode()
def leave_sites_out(
    model: SpectralCascade,
    means: Means,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    config: TrainConfig,
) -> dict[str, SiteErrors]:
    """The errors of places that have validation scenes, and without which the model can be fitted.

    Parameters
    ----------
    model : the trained cascade.
    means : its closed forms without each training scene's place.
    scenes, validation : what it was trained on, in the order of ``means``, and watched by.
    config : how it was trained.
    """
    cascade = model.config
    errors = {}
    for site in sorted({scene.site for scene in validation} - {""}):
        of_site = [number for number, scene in enumerate(scenes) if scene.site == site]
        if not of_site or len(of_site) == len(scenes):
            continue
        strips = [scene for scene in validation if scene.site == site]
        watch = CropSource(strips, cascade.bands, cascade.response, means.fill)
        batch = watch.every_pixel((config.seed, 8), size=config.crop, crops=CALIBRATION_CROPS).to(
            model.device
        )
        draw = model.drawn_by(generator_of(config.seed, 5, 0), len(batch.rgb), *batch.rgb.shape[2:])
        left_out = torch.full((len(batch.rgb),), of_site[0])
        own = model.sample(batch.rgb, draw, steps=1)
        closed = model.closed_form(batch.rgb, means.without(0, left_out), means.without(1, left_out))
        errors[site] = SiteErrors(batch.rmse(own), batch.rmse(closed))
    return errors


def site_factor(errors: Mapping[str, SiteErrors]) -> float:
    """How much errors grow in a new place: the geometric mean over places, each at least one."""
    if not errors:
        return 1.0
    ratios = [max(site.left_out / site.own, 1.0) for site in errors.values()]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
