"""One training from the features and the manifest, for the stages that train: `train` and `article`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.learning import network
from stages.learning.checkpoint import checkpoint_key, remove_other_checkpoints
from stages.learning.dataset import Images, TrainingBatches, Windows, index_windows
from stages.learning.model_file import FeatureSettings, ModelSettings
from stages.learning.runtime import keras, make_reproducible, number_of_devices, policy_name
from stages.learning.sounds import WindowSounds, window_sounds
from stages.learning.training import Trained, train_model
from stages.pipeline.errors import ParamsError, SplitError, StorageError
from stages.pipeline.files import sha256_of_file
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.model_params import TrainParams
from stages.pipeline.params import Params
from stages.pipeline.shards import Shard, list_shards
from stages.pipeline.sounds_table import SOUNDS, read_sounds

log = logging.getLogger(__name__)

FEATURES = Path("data/features")
MANIFEST_RECORD = Path("data/manifest.json")
LIBRARIES = ("keras", "tensorflow", "numpy")


def train(
    params: Params, checkpoints: Path, on_epoch: Callable[[dict[str, float]], None], *, validate: bool = True
) -> tuple[ModelSettings, Trained]:
    """Train on the training split as `params.train` says, from a checkpoint on where there is one.

    validate : False leaves the validation split aside; the last epoch is kept then.

    Raises
    ------
    ParamsError, SplitError, StorageError
    """
    rows = without_unknown(read_manifest(), params.train.unknown_languages)
    label = split_label()
    languages = sorted({row.language for row in rows if row.split == "train"})
    training = index_windows(FEATURES, rows, languages, "train")
    validation = index_windows(FEATURES, rows if validate else [], languages, "validation")
    check_training_split(training, languages)
    log.info(
        "%d languages; training on %d clips (%d windows), validating on %d clips; %s",
        len(languages), len(training.clips), len(training), len(validation.clips), label,
    )  # fmt: skip
    make_reproducible(params.train.seed)
    keras.config.set_dtype_policy(policy_name(params.train.precision))
    sounds = sounds_of(training, params)
    path = checkpoints / f"{run_key(params.train, rows, sounds)}.npz"
    remove_other_checkpoints(checkpoints, keep=path)
    images = Images(training, params.train.memory_gb)
    held_out = Images(validation, max(0.0, params.train.memory_gb - training.n_bytes / 1e9))
    batches = TrainingBatches(
        images, len(languages), params.train.batch_size, params.train.class_weights, params.train.seed,
        number_of_devices(), sounds=sounds,
    )  # fmt: skip
    trained = train_model(params.train, batches, held_out, path, on_epoch)
    return describe(params, languages, training, trained, label), trained


def sounds_of(training: Windows, params: Params) -> WindowSounds | None:
    """What is said in the training windows; None where the corpus doesn't tell, or the network doesn't listen to it."""
    if not (params.train.sounds_weight and params.train.architecture == "phonetic"):
        return None
    resize = params.resize
    sounds = window_sounds(training.clips, training.clip, read_sounds(), resize.window_seconds, resize.width)
    if sounds is not None:
        log.info("of %d clips it is known what is said in them", sum(len(begins) > 0 for begins in sounds.begins))
    return sounds


def forget_checkpoints(checkpoints: Path) -> None:
    """Remove those of a training whose model is safe."""
    remove_other_checkpoints(checkpoints, keep=checkpoints / "none")


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


def run_key(train: TrainParams, rows: list[Row], sounds: WindowSounds | None) -> str:
    """Name of the checkpoint: all that the result depends on."""
    digests = []
    for path in list_shards(FEATURES):
        with Shard(path) as shard:
            digests.append((path.name, shard.summary().digest))
    table = [(row.id, row.language, row.split) for row in rows]
    runtime = [keras.backend.backend(), keras.config.dtype_policy().name, number_of_devices()]
    versions = [version_of(name) for name in LIBRARIES]
    said = None
    if sounds is not None:
        with SOUNDS.open("rb") as handle:
            said = sha256_of_file(handle)
    sources = Path(network.__file__).parent.glob("*.py")
    parts = (train.model_dump(mode="json"), table, runtime, versions, said)
    return checkpoint_key(*parts, features=digests, sources=sources)


def version_of(name: str) -> str:
    """Of an installed package; TensorFlow goes by several names."""
    for candidate in (name, f"{name}-cpu"):
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return "absent"
