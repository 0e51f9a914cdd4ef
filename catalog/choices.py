"""What a setting can be chosen from, in a module that loads nothing else, for the command line."""

from __future__ import annotations

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
NodataRule = Literal["all", "any"]
"""Which of its channels must hold the nodata value for a pixel to be masked."""
Layer = Literal["sd", "q05", "q95"]
"""Of a pixel's samples, beside their mean."""
QualityLayer = Literal["quality", "rgb_consistency", "overlap_disagreement", "hsi_consistency"]
"""``hsi_consistency`` only of a pair that is fused."""
ShareLayer = Literal["abundance"]
"""Shares of a library's spectra, of a model that mixes one."""
Choice = Literal[Layer, QualityLayer, ShareLayer]
"""The layers that can be asked for."""
Frame = Literal["north-up", "line"]
"""Whether the rows of a flight line's grid run along the map or the line."""
Combine = Literal["feather", "first", "nadir"]
"""How scenes share a pixel."""
Response = Literal["fit", "table"]
"""Where the MSI's response is from: fitted on the pair, or the tables of its bands."""
Resampling = Literal["bilinear", "cubic"]
"""How RGB comes between the pixels of a scene."""
