"""Article: the 2017 article's network by the article's recipe, on the same clips -> models/article.

A rung of evaluate's ladder, so that a score is read against what was published. `article.epochs: 0` leaves it out.
Validation is not used: the article's recipe ends after its epochs.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

from stages.learning.checkpoint import CHECKPOINTS
from stages.learning.model_file import ARTICLE, save_model
from stages.learning.training_run import forget_checkpoints, train
from stages.pipeline.params import Params, parse_params
from stages.pipeline.stage_main import stage_main

OWN_CHECKPOINTS = CHECKPOINTS / "article"
# Of train's section: the article's network, optimizer, rates, no regularisation but dropout, no augmentation
RECIPE: dict[str, Any] = {
    "architecture": "cnn5",
    "optimizer": "nadam",
    "schedule": "steps",
    "learning_rates": [[0, 1e-3], [2, 1e-4]],
    "weight_decay": 0,
    "dropout": 0.5,
    "label_smoothing": 0,
    "class_weights": "none",
    "patience": 0,
    "average_momentum": 0,
}


def run(params: Params) -> None:
    shutil.rmtree(ARTICLE, ignore_errors=True)
    ARTICLE.mkdir(parents=True)
    if not params.article.epochs:
        return
    settings, trained = train(with_recipe(params), OWN_CHECKPOINTS, lambda record: None, validate=False)
    save_model(ARTICLE, settings, trained.weights, "The 2017 article's network, for comparison: stages/article.py\n")
    forget_checkpoints(OWN_CHECKPOINTS)


def with_recipe(params: Params) -> Params:
    """`params` with the article's recipe in train's place; seed, batch size and precision stay."""
    values = params.model_dump(mode="json")
    off = dict.fromkeys(values["train"]["augment"], 0)
    values["train"] |= RECIPE | {"epochs": params.article.epochs, "augment": off}
    return parse_params(values)


if __name__ == "__main__":
    sys.exit(stage_main("article"))
