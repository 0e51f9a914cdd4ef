"""Train the classifier of pixels that the diversity scores look through, and measure it on other samples.

    SPECTILE_DATA=… python benchmarks/cover_classifier.py
    SPECTILE_DATA=… python benchmarks/cover_classifier.py --steps 1500 --out FOLDER

With 1500 steps FOLDER is what is shipped as model/classifiers/cover48. A fifth of each library's samples is
left out and tested on; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from shared import OUT, arguments, data_folder

from spectile.catalog.bands import VNIR48, resampling_matrix
from spectile.flows.training.data import digest, held_out_spectra, usable_spectra
from spectile.flows.training.sources import LibrarySource
from spectile.model import checkpoint
from spectile.model.measure.diversity import KIND, SpectralClassifier
from spectile.pipeline.spectra.libraries import read_spectral_library

SMALL = ["--steps", "20"]
EMIT = "more/lib_emit_l2a_surface/l2a_"
CLASSES: dict[str, list[LibrarySource]] = {
    "vegetation": [LibrarySource(f"{EMIT}surface_Vegetation", "EMIT L2A: vegetation", "Apache-2.0")],
    "soil": [
        LibrarySource(f"{EMIT}surface_SoilsAndMixtures", "EMIT L2A: soils and mixtures", "Apache-2.0"),
        LibrarySource(
            "more/lib_earthlib/spectra.sli", "earthlib 1.1.0: soils (ICRAF-ISRIC)", "MIT", names="FS*"
        ),
    ],
    "man-made": [
        LibrarySource(f"{EMIT}surface_ArtificialMaterials", "EMIT L2A: man-made", "Apache-2.0"),
        LibrarySource(
            "more/lib_slum_london/LUMA_SLUM_SW.csv", "SLUM, London", "CC0-1.0", spectra="columns", scale=0.01
        ),
    ],
    "water": [LibrarySource(f"{EMIT}purdue_river_library_fullrng", "EMIT L2A: turbid rivers", "Apache-2.0")],
}
TEST_SHARE = 0.2
BATCH = 256
NOISE = 0.02
"""Deviation of noise on the training spectra, relative to their mean."""


def read(data: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[dict[str, str]]]:
    """Spectra (P, 48), classes (P,), which are left out (P,), and the facts of the files."""
    spectra, labels, left_out, facts = [], [], [], []
    for label, sources in enumerate(CLASSES.values()):
        for source in sources:
            library = read_spectral_library(
                data / source.path, layout=source.layout, scale=source.scale, table=source.table
            )
            usable, values, bands, said = usable_spectra(library, source)
            matrix, supported = resampling_matrix(bands, VNIR48)
            # A band that a library lacks at an end holds the nearest one.
            nearest = np.abs(np.arange(48)[:, None] - np.flatnonzero(supported)).argmin(axis=1)
            spectra.append((values @ matrix.T)[:, np.flatnonzero(supported)][:, nearest])
            labels += [label] * len(usable)
            left_out.append(held_out_spectra([library.samples[i] for i in usable], TEST_SHARE))
            facts.append(
                {
                    "name": source.name, "path": source.path, "licence": source.licence, "spectra": said,
                    "sha256": digest(data / source.path),
                }
            )  # fmt: skip
    everything = torch.from_numpy(np.concatenate(spectra).astype(np.float32))
    return everything, torch.tensor(labels), torch.from_numpy(np.concatenate(left_out)), facts


def main() -> None:
    """Train, test, save, and print the accuracy of each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=OUT / "cover48")
    given = parser.parse_args(arguments(SMALL))
    spectra, labels, left_out, facts = read(data_folder())
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = SpectralClassifier(spectra.shape[1], len(CLASSES))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    places = [torch.nonzero((labels == k) & ~left_out)[:, 0] for k in range(len(CLASSES))]
    each = BATCH // len(CLASSES)
    for step in range(given.steps):
        # Every class as often as the others, whatever its libraries hold.
        at = torch.cat([own[torch.randint(len(own), (each,), generator=generator)] for own in places])
        noise = NOISE * torch.randn(len(at), spectra.shape[1], generator=generator)
        noisy = spectra[at] + noise * spectra[at].mean(1, keepdim=True)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1.0 - step / given.steps)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(noisy), labels[at]).backward()
        optimiser.step()
    shares = model.eval().shares(spectra[left_out].numpy())
    right = torch.from_numpy(shares.argmax(1)) == labels[left_out]
    accuracy = {
        name: round(float(right[labels[left_out] == k].float().mean()), 4) for k, name in enumerate(CLASSES)
    }
    accuracy["mean of classes"] = round(sum(accuracy.values()) / len(CLASSES), 4)
    checkpoint.save(
        given.out,
        model.state_dict(),
        {
            "name": "cover48", "kind": KIND, "data": facts, "trained_steps": given.steps,
            "preset": {"bands": spectra.shape[1], "classes": list(CLASSES)},
            "held_out": {"accuracy": accuracy},
        },
    )  # fmt: skip
    for name, value in accuracy.items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
