"""Train: feature images and the manifest -> models/model, learning curves in metrics/train.

A run that was killed goes on from its last finished epoch and ends with the same bytes (stages/learning/checkpoint.py).
"""

from __future__ import annotations

import sys

from stages.learning.checkpoint import CHECKPOINTS
from stages.learning.curves import Curves
from stages.learning.model_file import MODEL, ModelSettings, save_model
from stages.learning.training import Trained
from stages.learning.training_run import forget_checkpoints, train
from stages.pipeline.params import Params
from stages.pipeline.stage_main import stage_main


def run(params: Params) -> None:
    with Curves() as curves:
        settings, trained = train(params, CHECKPOINTS, curves.add)
        curves.finish(summarise(trained))
    save_model(MODEL, settings, trained.weights, model_card(settings, trained))
    forget_checkpoints(CHECKPOINTS)  # the next `dvc repro -f` is to train, not to find itself finished


def summarise(trained: Trained) -> dict[str, float | int]:
    """metrics/train/metrics.json: the epoch that was kept."""
    record = trained.history[trained.epoch]
    out: dict[str, float | int] = {"epochs": len(trained.history), "best_epoch": trained.epoch + 1}
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        if name in record:
            out[name] = round(record[name], 4)
    return out


def model_card(settings: ModelSettings, trained: Trained) -> str:
    """models/model/MODEL_CARD.md. Test scores are the evaluate stage's; they don't stand here."""
    record = trained.history[trained.epoch]
    resize, logmel = settings.features.resize, settings.features.logmel
    image = (
        f"{resize.height} x {resize.width} image of {resize.window_seconds:g} s of sound, "
        f"{logmel.n_mels} {logmel.axis} bands, {settings.features.resample.rate_hz} Hz"
    )
    validation = (
        f"{record['validation_accuracy']:.4f} accuracy, {record['validation_loss']:.4f} nats log loss"
        if "validation_accuracy" in record
        else "none: there is no validation split, the last epoch was kept"
    )
    return f"""# Spoken-language recogniser `{settings.architecture}`

Tells which of {len(settings.languages)} languages is spoken in a recording: {", ".join(settings.languages)}.

| | |
|---|---|
| parameters | {settings.n_parameters:,} |
| input | {image} |
| output | probabilities in the order of `languages` in model.json |
| trained on | {settings.n_clips} clips of {settings.n_groups} voices or sources |
| split | {settings.split_label} |
| epochs | {len(trained.history)}, weights of epoch {settings.best_epoch} |
| validation (used to choose the epoch) | {validation} |
| made with | {", ".join(f"{name} {number}" for name, number in sorted(settings.versions.items()))} |

Scores on the test split stand in metrics/evaluate/metrics.json.

## Limits

- It knows the voices, microphones and engines of its training data. Synthetic voices alone do not make a recogniser
  of real people.
- As trained, its probabilities are uncalibrated and it always answers with one of its languages, also when it hears
  another one, music or noise. models/calibrated holds what was fitted afterwards.
"""


if __name__ == "__main__":
    sys.exit(stage_main("train"))
