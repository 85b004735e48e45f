"""What the 2017 article claims, as grids of experiments: one cell is the article's choice, the others what it is
compared with. All cells share one network, recipe and corpus (COMMON), and differ in the named params only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | list[str] | list[list[float]]

SEEDS = (1, 2, 3)  # train.seed: first weights, order, dropout
MARGIN = 0.05  # accuracy; "as well as" means: no more than this apart

# Five of the demo corpus's languages. Not the corpus's own split but one by voice with a larger test share: 21 voices
# in 340 test clips where its own has 19 in 150, and differences between networks are small.
CORPUS: dict[str, Value] = {
    "dataset": "data/demo/clips",
    "manifest.languages": ["de", "es", "fi", "fr", "pt"],
    "manifest.columns.split": "none",
    "manifest.test_fraction": 0.25,
    "manifest.validation_fraction": 0.15,
    "manifest.seed": 1,
}
# The article's network, optimizer and rates with more epochs and smaller batches, as the corpus has 53 times fewer
# clips; chosen on the validation split. Its epoch with the best validation is kept. No augmentation: masks of one
# width would mean another thing to each size of image.
RECIPE: dict[str, Value] = {
    "train.epochs": 8,
    "train.batch_size": 32,
    "train.optimizer": "nadam",
    "train.schedule": "steps",
    "train.learning_rates": [[0, 1e-3], [6, 1e-4]],
    "train.weight_decay": 0.0,
    "train.dropout": 0.5,
    "train.label_smoothing": 0.0,
    "train.class_weights": "none",
    "train.patience": 0,
    "train.average_momentum": 0.0,
    "train.augment.crop_columns": 0,
    "train.augment.time_stretch": 0.0,
    "train.augment.reverb_probability": 0.0,
    "train.augment.frequency_warp": 0.0,
    "train.augment.equalise": 0.0,
    "train.augment.noise_probability": 0.0,
    "train.augment.band_limit_probability": 0.0,
    "train.augment.shorten_probability": 0.0,
    "train.augment.frequency_masks": 0,
    "train.augment.time_masks": 0,
    "article.epochs": 0,
    "evaluate.bootstrap_samples": 100,
}
# The images are the article's, of 10 s, whatever params.yaml has.
IMAGES: dict[str, Value] = {"logmel.n_fft": 1024, "resize.window_seconds": 10, "resize.stride_seconds": 10}
# What the cells change, as the article has it.
CHOICE: dict[str, Value] = {
    "manifest.split_by": "group",
    "logmel.axis": "mel",
    "logmel.n_mels": 192,
    "resize.intensity": "log",
    "resize.height": 192,
    "resize.width": 192,
    "train.architecture": "cnn5",
}
BASE = "base"
CELLS: dict[str, dict[str, Value]] = {
    BASE: {},
    "axis-log": {"logmel.axis": "log"},
    "axis-linear": {"logmel.axis": "linear"},
    "intensity-amplitude": {"resize.intensity": "amplitude"},
    "intensity-power": {"resize.intensity": "power"},
    "size-96x96": {"resize.height": 96, "resize.width": 96},
    "size-128x384": {"resize.height": 128, "resize.width": 384},
    "size-224x448": {"resize.height": 224, "resize.width": 448, "logmel.n_mels": 224},
    "head-average": {"train.architecture": "cnn5_average"},
    "head-attention": {"train.architecture": "cnn5_attention"},
    "relu-normalised": {"train.architecture": "cnn5_relu"},
    "split-random": {"manifest.split_by": "random"},
}

Kind = Literal["better", "as well", "higher"]


@dataclass(frozen=True)
class Claim:
    """text : what is claimed of the base against each of `cells`, which have a name for people.

    kind : "better", the base scores higher; "as well", the cell is not ahead by more than MARGIN; "higher", the cell
        scores higher
    """

    text: str
    kind: Kind
    cells: Mapping[str, str]


CLAIMS = (
    Claim(
        "A mel axis beats a log-frequency and a linear one", "better",
        {"axis-log": "log-frequency axis", "axis-linear": "linear axis"},
    ),
    Claim(
        "Log intensities help", "better",
        {"intensity-amplitude": "linear: amplitude", "intensity-power": "linear: power"},
    ),
    Claim(
        "192x192 does as well as other sizes", "as well",
        {"size-224x448": "224x448", "size-96x96": "96x96", "size-128x384": "128x384"},
    ),
    Claim(
        "A dense layer beats pooling", "better",
        {"head-average": "average pooling", "head-attention": "attention pooling"},
    ),
    Claim(
        "ELU makes batch normalisation needless", "as well",
        {"relu-normalised": "ReLU and batch normalisation"},
    ),
    Claim(
        "A random split scores higher than one by voice", "higher",
        {"split-random": "random split"},
    ),
)  # fmt: skip


# Each cell with every param that any cell changes, so that no run depends on the one before it.
SETTINGS: dict[str, dict[str, Value]] = {
    cell: CORPUS | RECIPE | IMAGES | CHOICE | changes for cell, changes in CELLS.items()
}
