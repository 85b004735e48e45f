"""Train: feature images and the manifest -> models/model, learning curves in metrics/train.

A run that was killed goes on from its last finished epoch and ends with the same bytes (stages/learning/checkpoint.py).
"""

from __future__ import annotations

import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

from stages.learning import network
from stages.learning.checkpoint import CHECKPOINTS, checkpoint_key, remove_other_checkpoints
from stages.learning.curves import Curves
from stages.learning.dataset import Images, TrainingBatches, Windows, index_windows
from stages.learning.model_file import MODEL, FeatureSettings, ModelSettings, save_model
from stages.learning.runtime import keras, make_reproducible, number_of_devices, policy_name
from stages.learning.training import Trained, train_model
from stages.pipeline.errors import ParamsError, SplitError, StorageError
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.params import Params
from stages.pipeline.runner import stage_main
from stages.pipeline.shards import Shard, list_shards

log = logging.getLogger(__name__)

FEATURES = Path("data/features")
MANIFEST_RECORD = Path("data/manifest.json")
LIBRARIES = ("keras", "tensorflow", "numpy")


def run(params: Params) -> None:
    rows = without_unknown(read_manifest(), params.train.unknown_languages)
    label = split_label()
    languages = sorted({row.language for row in rows if row.split == "train"})
    training = index_windows(FEATURES, rows, languages, "train")
    validation = index_windows(FEATURES, rows, languages, "validation")
    check_training_split(training, languages)
    log.info(
        "%d languages; training on %d clips (%d windows), validating on %d clips; %s",
        len(languages), len(training.clips), len(training), len(validation.clips), label,
    )  # fmt: skip
    make_reproducible(params.train.seed)
    keras.config.set_dtype_policy(policy_name(params.train.precision))
    path = CHECKPOINTS / f"{run_key(params, rows)}.npz"
    remove_other_checkpoints(CHECKPOINTS, keep=path)
    images = Images(training, params.train.memory_gb)
    held_out = Images(validation, max(0.0, params.train.memory_gb - training.n_bytes / 1e9))
    batches = TrainingBatches(
        images, len(languages), params.train.batch_size, params.train.class_weights, params.train.seed,
        number_of_devices(),
    )  # fmt: skip
    with Curves() as curves:
        trained = train_model(params.train, batches, held_out, path, curves.add)
        curves.finish(summarise(trained))
    settings = describe(params, languages, training, trained, label)
    save_model(MODEL, settings, trained.weights, model_card(settings, trained))
    path.unlink(missing_ok=True)  # the next `dvc repro -f` is to train, not to find itself finished


def split_label(record: Path = MANIFEST_RECORD) -> str:
    """What the manifest stage says of the splits; stands beside every score."""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["split_label"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{record} does not tell the split's label ({error!r}); run `dvc repro manifest`") from None


def without_unknown(rows: list[Row], unknown: tuple[str, ...]) -> list[Row]:
    """The rows of the languages that the model is to know.

    Raises
    ------
    ParamsError
        `unknown` names a language that the corpus lacks.
    """
    present = {row.language for row in rows}
    missing = sorted(set(unknown) - present)
    if missing:
        raise ParamsError(
            f"train.unknown_languages names {', '.join(missing)}; the manifest has {', '.join(sorted(present))}"
        )
    return [row for row in rows if row.language not in unknown]


def check_training_split(training: Windows, languages: list[str]) -> None:
    """Raises SplitError where a language has nothing to train on, or there is none to tell it from."""
    heard = {row.language for row in training.clips}
    missing = [language for language in languages if language not in heard]
    if missing:
        raise SplitError(
            f"no training clip of {', '.join(missing[:10])} has come through the stages; see metrics/*/quarantine.csv, "
            "add recordings or drop the language (manifest.drop_languages)"
        )
    if len(languages) < 2:
        raise SplitError(f"expected at least two languages in the training split, received {len(languages)}")


def run_key(params: Params, rows: list[Row]) -> str:
    """Name of the checkpoint: all that the result depends on."""
    digests = []
    for path in list_shards(FEATURES):
        with Shard(path) as shard:
            digests.append((path.name, shard.summary().digest))
    table = [(row.id, row.language, row.split) for row in rows]
    runtime = [keras.backend.backend(), keras.config.dtype_policy().name, number_of_devices()]
    versions = [version_of(name) for name in LIBRARIES]
    sources = Path(network.__file__).parent.glob("*.py")
    return checkpoint_key(
        params.train.model_dump(mode="json"), table, runtime, versions, features=digests, sources=sources
    )


def version_of(name: str) -> str:
    """Of an installed package; TensorFlow goes by several names."""
    for candidate in (name, f"{name}-cpu"):
        try:
            return version(candidate)
        except ModuleNotFoundError:
            continue
    return "absent"


def summarise(trained: Trained) -> dict[str, float | int]:
    """metrics/train/metrics.json: the epoch that was kept."""
    record = trained.history[trained.epoch]
    out: dict[str, float | int] = {"epochs": len(trained.history), "best_epoch": trained.epoch + 1}
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        if name in record:
            out[name] = round(record[name], 4)
    return out


def describe(params: Params, languages: list[str], training: Windows, trained: Trained, label: str) -> ModelSettings:
    features = FeatureSettings(
        decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize
    )
    n_parameters = sum(int(value.size) for value in trained.weights)
    return ModelSettings(
        format=1,
        architecture=params.train.architecture,
        languages=tuple(languages),
        features=features,
        train=params.train,
        temperature=1.0,
        n_parameters=n_parameters,
        best_epoch=trained.epoch + 1,
        n_clips=len(training.clips),
        n_groups=len({row.group for row in training.clips}),
        split_label=label,
        versions={name: version_of(name) for name in LIBRARIES},
    )


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
