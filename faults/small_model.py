"""A model that is small and real: an untrained network, saved as the train stage saves it and exported as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faults.project import ROOT, merged
from stages.learning.model_file import FeatureSettings, ModelSettings, fresh_network, load_model, save_model
from stages.learning.runtime import keras
from stages.pipeline.params import Params, parse_params
from stages.pipeline.yaml12 import load_yaml12

SMALL: dict[str, Any] = {
    "logmel": {"n_mels": 40, "n_fft": 512},
    "resize": {"height": 32, "width": 32, "window_seconds": 1.0, "stride_seconds": 1.0},
    "train": {"augment": {"crop_columns": 0}},
}


def features_of(params: Params) -> FeatureSettings:
    return FeatureSettings(decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize)


def untrained_model(
    folder: Path, *, temperature: float = 1.0, unknown_threshold: float | None = None,
    languages: tuple[str, ...] = ("es", "fi", "pt"), **changes: Any,
) -> Path:  # fmt: skip
    """A model folder as the train stage leaves it, weights random but the last layer's large: sure of what it says."""
    values = load_yaml12((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(merged(values, SMALL | changes))
    settings = ModelSettings(
        format=1, architecture=params.train.architecture, languages=languages, features=features_of(params),
        train=params.train, temperature=temperature, unknown_threshold=unknown_threshold,
        n_parameters=1, best_epoch=1, n_clips=720, n_groups=60,
        split_label="group-disjoint", versions={},
    )  # fmt: skip
    keras.utils.set_random_seed(3)
    network = fresh_network(settings)
    weights = network.get_weights()
    weights[-2] *= 10
    save_model(folder, settings, weights, "card")
    return folder


def exported_model(place: Path, **changes: Any) -> Path:
    """The folder of an untrained model as the export stage leaves it: model.onnx alone."""
    from stages.learning.onnx_graph import to_onnx

    folder = untrained_model(place / "model", **changes)
    (place / "export").mkdir()
    (place / "export/model.onnx").write_bytes(to_onnx(*load_model(folder), {}))
    return place / "export"
