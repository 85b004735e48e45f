"""A trained model on disk: weights, and as plain data everything that is needed to use them.

    models/model/model.weights.h5   Keras's weights format, no dates, so same training, same bytes
    models/model/model.json         architecture, languages, feature settings, params, versions
    models/model/MODEL_CARD.md      the same for people

models/calibrated holds the same files, with what the calibrate stage fitted in model.json.

Loading builds the network from our own code and takes numbers from the files, nothing else: no pickle, no code, no
links to other files. A file of unknown origin can be wrong, but it cannot run anything.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.learning.network import build_network
from stages.learning.runtime import keras
from stages.pipeline.data_params import DecodeParams, LogmelParams, ResampleParams, ResizeParams
from stages.pipeline.errors import PipelineError, StorageError
from stages.pipeline.files import write_atomically, write_json
from stages.pipeline.model_params import Architecture, TrainParams

MODEL = Path("models/model")
CALIBRATED = Path("models/calibrated")
ARTICLE = Path("models/article")  # the ladder's; empty where it is left out
WEIGHTS_NAME = "model.weights.h5"
SETTINGS_NAME = "model.json"
CARD_NAME = "MODEL_CARD.md"
MOST_BYTES = 4_000_000_000


class FeatureSettings(BaseModel):
    """How sound becomes images: the params of the data stages, as they were when the model was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decode: DecodeParams
    resample: ResampleParams
    logmel: LogmelParams
    resize: ResizeParams

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        """Models that were made before resize.intensity was a choice have pixels in dB."""
        resize = values.get("resize") if isinstance(values, dict) else None
        return values | {"resize": {"intensity": "log", **resize}} if isinstance(resize, dict) else values


class ModelSettings(BaseModel):
    """model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    architecture: Architecture
    languages: tuple[str, ...] = Field(min_length=1, max_length=10000, description="in the order of the outputs")
    features: FeatureSettings
    train: TrainParams
    temperature: float = Field(gt=0, le=100, description="log-probabilities are divided by it")
    unknown_threshold: float | None = Field(
        default=None, ge=0, le=1, description="where the best probability is lower, the answer is `unknown`"
    )
    calibration: str = Field(default="none: as trained", description="what these two were fitted on")
    n_parameters: int = Field(ge=1)
    best_epoch: int = Field(ge=0, description="the epoch whose weights these are, from 1")
    n_clips: int = Field(ge=0, description="clips that it was trained on")
    n_groups: int = Field(ge=0, description="voices or sources that it was trained on")
    split_label: str
    versions: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        """Models that were made before there was a choice to listen to sounds did not."""
        train = values.get("train") if isinstance(values, dict) else None
        return values | {"train": {"sounds_weight": 0, **train}} if isinstance(train, dict) else values

    @model_validator(mode="after")
    def _languages_differ(self) -> ModelSettings:
        if len(set(self.languages)) != len(self.languages):
            raise ValueError("languages: the same one stands twice")
        return self


def fresh_network(settings: ModelSettings) -> Any:
    """An untrained network in float32, whatever precision it is or was trained in."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        resize = settings.features.resize
        return build_network(
            settings.architecture, resize.height, resize.width, len(settings.languages), settings.train.dropout
        )
    finally:
        keras.config.set_dtype_policy(before)


def save_model(folder: Path, settings: ModelSettings, weights: list[np.ndarray], card: str) -> None:
    """Write the three files.

    weights : as `model.get_weights()` gives them, for the network that `settings` describe.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    model = fresh_network(settings)
    model.set_weights(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save_weights(folder / WEIGHTS_NAME)
    except OSError as error:
        raise StorageError(f"{folder / WEIGHTS_NAME} could not be written: {error}; free some space") from error
    write_json(folder / SETTINGS_NAME, settings.model_dump(mode="json"))
    with write_atomically(folder / CARD_NAME) as handle:
        handle.write(card)


def copy_model(source: Path, target: Path, settings: ModelSettings, more: str) -> None:
    """The weights of `source` with other settings.

    more : is added to the card.

    Raises
    ------
    StorageError
        A file of `source` cannot be read, or the folder not be written.
    """
    try:
        card = (source / CARD_NAME).read_text(encoding="utf-8")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / WEIGHTS_NAME, target / WEIGHTS_NAME)  # not its read-only mode
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{source} could not be copied to {target}: {error}; run `dvc repro calibrate`") from error
    write_json(target / SETTINGS_NAME, settings.model_dump(mode="json"))
    with write_atomically(target / CARD_NAME) as handle:
        handle.write(card + more)


def load_settings(folder: Path = MODEL) -> ModelSettings:
    """Read and check model.json.

    Raises
    ------
    StorageError
        There is none.
    PipelineError
        It is none of ours.
    """
    path = folder / SETTINGS_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StorageError(
            f"expected a trained model in {folder}, found no {path.name}; run `dvc repro {_stage_of(folder)}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from None
    try:
        return ModelSettings.model_validate(json.loads(text))
    except (ValidationError, ValueError, RecursionError) as error:
        first = str(error).replace("\n", " ")[:300]
        raise PipelineError(
            f"{path} does not describe a model of this version: {first}. Run `dvc repro train`, or take the version "
            "of the code that made it"
        ) from None


def _stage_of(folder: Path) -> str:
    return "calibrate" if folder.name == CALIBRATED.name else "train"


def _check_weights_file(path: Path, model: Any) -> None:
    """Refuse what is not exactly a plain file of this network's weights, before Keras reads it."""
    if path.stat().st_size > MOST_BYTES:
        raise PipelineError(f"{path}: expected at most {MOST_BYTES} bytes, received {path.stat().st_size}")
    expected = sorted(tuple(weight.shape) for weight in model.weights)
    found: list[tuple[int, ...]] = []

    def walk(group: h5py.Group, depth: int) -> None:
        if depth > 12 or len(group) > 10000:
            raise PipelineError(f"{path}: expected the weights of {model.name}, received a file of another kind")
        for name in sorted(group):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise PipelineError(f"{path}: {group.name}/{name} is a link; a file of weights has none")
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, depth + 1)
                continue
            if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.dtype.kind not in "fui":
                raise PipelineError(f"{path}: {item.name} holds no plain numbers of its own")
            # states of random generators are two unsigned integers; they are no weights
            if item.dtype.kind == "f":
                if item.dtype != np.dtype("float32"):
                    raise PipelineError(f"{path}: {item.name}: expected float32, received {item.dtype}")
                found.append(tuple(item.shape))
            elif item.size > 16:
                raise PipelineError(f"{path}: {item.name}: expected float32, received {item.dtype}")

    with h5py.File(path, "r") as handle:
        walk(handle, 0)
    if sorted(found) != expected:
        raise PipelineError(
            f"{path}: expected {len(expected)} arrays of the shapes of {model.name}, received {len(found)} "
            "that differ; the weights belong to another model.json. Run `dvc checkout` or `dvc repro train`"
        )


def load_model(folder: Path = MODEL) -> tuple[Any, ModelSettings]:
    """The network in float32 with its trained weights, and its settings.

    Raises
    ------
    StorageError
        A file is missing or cannot be read.
    PipelineError
        The files are none of ours, or don't belong together.
    """
    settings = load_settings(folder)
    path = folder / WEIGHTS_NAME
    model = fresh_network(settings)
    if not path.is_file():
        raise StorageError(f"expected {path}, found none; run `dvc checkout` or `dvc repro {_stage_of(folder)}`")
    try:
        _check_weights_file(path, model)
        model.load_weights(path)
    except PipelineError:
        raise
    except Exception as error:
        first = str(error).split("\n")[0][:300]
        raise PipelineError(
            f"{path} is not a file of weights for {settings.architecture}: {first}. Run `dvc checkout` or "
            "`dvc repro train`"
        ) from None
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise PipelineError(f"{path} holds weights that are no finite numbers. Run `dvc repro -f train`")
    return model, settings
