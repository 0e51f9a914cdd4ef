"""The spectra that a HyperLDM mixes: chosen from a spectral library, by name."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from spectile.catalog.bands import resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.flows.training.data import usable_spectra
from spectile.flows.training.sources import EndmemberSource
from spectile.model.hyperldm.endmembers import choose_endmembers
from spectile.model.hyperldm.preset import Endmember, HyperConfig
from spectile.pipeline.spectra.libraries import read_spectral_library


def with_library(config: HyperConfig, source: EndmemberSource, data_dir: Path) -> HyperConfig:
    """The configuration with its endmembers, resampled to the model's bands.

    Raises
    ------
    SpectileError
        Where the library cannot be read, lacks a band or has too few spectra.
    """
    library = read_spectral_library(data_dir / source.path, layout=source.library.layout)
    usable, spectra, bands, _ = usable_spectra(library, source.library)
    matrix, supported = resampling_matrix(bands, config.bands)
    if not supported.all():
        missing = np.asarray(config.bands.centre_nm)[~supported]
        raise UsageError(
            "the library lacks bands of the model", where=source.path,
            got=", ".join(f"{nm:g} nm" for nm in missing[:4]),
        )  # fmt: skip
    names = [library.names[i] for i in usable]
    kept = [i for i, name in enumerate(names) if not any(fnmatchcase(name, one) for one in source.leave_out)]
    resampled = (spectra[kept] @ matrix.T).astype(np.float32)
    return replace(
        config,
        library=tuple(
            Endmember(" ".join(names[kept[i]].split()), tuple(round(float(v), 5) for v in resampled[i]))
            for i in choose_endmembers(resampled, config.endmembers)
        ),
    )
