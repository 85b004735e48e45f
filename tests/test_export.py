"""The exported model against the data stages and the network that it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
from conftest import ROOT, Project, make_params, speech_like
from learning_project import write_params

from app.onnx_model import OnnxModel
from app.predict import main
from app.recognizer import Recognition, Recognizer
from stages.export import TOLERANCE, distance_from_pipeline
from stages.learning import metrics
from stages.learning.front_end import FrontEnd, fourier_kernel, window_input
from stages.learning.model_file import FeatureSettings, ModelSettings, fresh_network, load_model, save_model
from stages.learning.onnx_graph import to_onnx
from stages.learning.runtime import keras
from stages.logmel import log_mel
from stages.pipeline.params import Params
from stages.resize import resize_to_image

SMALL: dict[str, Any] = {
    "logmel": {"n_mels": 40, "n_fft": 512},
    "resize": {"height": 32, "width": 32, "window_seconds": 1.0, "stride_seconds": 1.0},
    "train": {"augment": {"crop_columns": 0}},
}


def features_of(params: Params) -> FeatureSettings:
    return FeatureSettings(decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize)


def untrained_model(
    folder: Path, *, temperature: float = 1.0, unknown_threshold: float | None = None, **changes: Any
) -> Path:
    """A model folder as the train stage leaves it, weights random but the last layer's large: sure of what it says."""
    params = make_params(**(SMALL | changes))
    settings = ModelSettings(
        format=1, architecture=params.train.architecture, languages=("es", "fi", "pt"), features=features_of(params),
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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"logmel": {"axis": "log", "n_mels": 24}},
        {"logmel": {"axis": "linear", "n_fft": 400, "hop_length": 160, "fmax_hz": 4000}},
        {"logmel": {"n_mels": 32, "hop_length": 500}, "resample": {"rate_hz": 16001}},
        {"resize": {"width": 200, "window_seconds": 1.37}},  # more columns than frames
        {"logmel": {"floor_db": -50}, "resize": {"range_db": 120}},
        {"resize": {"intensity": "amplitude"}},
        {"resize": {"intensity": "power"}},
    ],
)
def test_images_are_those_of_the_stages(changes: dict[str, Any]) -> None:
    params = make_params(**{section: values | changes.get(section, {}) for section, values in SMALL.items()} |
                         {"resample": changes.get("resample", {})})  # fmt: skip
    features = features_of(params)
    window = window_input(features)
    clips = [
        (20000 * speech_like(seed, seconds, window.rate_hz)).astype(np.int16)
        for seed, seconds in enumerate((0.05, 0.3, 0.51, 0.998, 1.0, 1.36))
    ]
    room = window.samples - window.before
    samples = np.zeros((len(clips), window.samples), np.float32)
    for row, clip in zip(samples, clips, strict=True):
        row[window.before :][: len(clip)] = clip[:room] / np.float32(32768)
    lengths = np.array([len(clip) for clip in clips])
    found = np.asarray(FrontEnd(features)(samples, lengths))
    assert found.shape == (len(clips), params.resize.height, params.resize.width, 1)
    compared = 0
    for image, clip in zip(found, clips, strict=True):
        bands = log_mel(clip, window.rate_hz, params.logmel)
        expected = resize_to_image(bands, window.rate_hz / params.logmel.hop_length, params.resize)
        if len(bands) > window.frames:  # windows of longer clips are app's to cut; see test_predict.py
            continue
        compared += 1
        assert np.array_equal(image, np.round(image))
        assert (image.max(), image.min()) == (255, expected.min())
        difference = np.abs(image - expected[0])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02
        assert np.array_equal(image.any(axis=(0, 2)), expected[0].any(axis=(0, 2)))  # as many columns
    assert compared >= 3


def test_the_kernel_takes_a_fourier_transform() -> None:
    rng = np.random.default_rng(1)
    frames = rng.standard_normal((5, 100))
    bins = np.array([0, 3, 17, 50])
    hann = np.hanning(101)[:-1]
    expected = np.fft.rfft(frames * hann)[:, bins]
    found = frames @ fourier_kernel(100, bins)
    assert np.allclose(found[:, :4], expected.real, atol=1e-4)
    assert np.allclose(found[:, 4:], -expected.imag, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "temperature"),
    [("bands", 0.5), ("bands", 1.0), ("bands", 2.5), ("bands_deep", 0.5), ("cnn5", 2.5), ("cnn5_average", 0.5),
     ("cnn5_attention", 1.0), ("cnn5_relu", 0.5)],
)  # fmt: skip
def test_probabilities_are_pooled_and_tempered_as_evaluate_does(
    tmp_path: Path, architecture: str, temperature: float
) -> None:
    folder = untrained_model(
        tmp_path / "model",
        temperature=temperature,
        train={"architecture": architecture, "augment": {"crop_columns": 0}},
        resize=SMALL["resize"] | ({"height": 64, "width": 64} if architecture == "cnn5_attention" else {}),
    )
    network, settings = load_model(folder)
    (tmp_path / "export").mkdir()
    (tmp_path / "export/model.onnx").write_bytes(to_onnx(network, settings, {}))
    features = settings.features
    sound = (20000 * speech_like(5, 3.4)).astype(np.int16)
    images = resize_to_image(log_mel(sound, 16000, features.logmel), 50, features.resize)
    windows = network.predict_on_batch(images.astype(np.float32))
    expected = metrics.temper(metrics.pool_windows(windows, np.zeros(len(windows), np.int64), 1), temperature)
    recognizer = Recognizer(tmp_path / "export", all_sound=True)
    assert isinstance(recognizer.model, OnnxModel)
    starts = recognizer.model.window_starts(len(sound))
    probabilities = recognizer.model.probabilities(sound, starts)
    assert probabilities.shape == windows.shape == (3, 3)
    found = recognizer.recognize_samples(sound, 3.4)
    assert np.allclose([dict(found.ranking)[name] for name in settings.languages], np.exp(expected[0]),
                       rtol=0, atol=TOLERANCE)  # fmt: skip
    assert found.probability > 0.35


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    network, settings = load_model(untrained_model(tmp_path))
    data = to_onnx(network, settings, {"weights_sha256": "0123"})
    assert distance_from_pipeline(data, network, settings.features, settings.temperature) < TOLERANCE
    session = onnxruntime.InferenceSession(data)
    found = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert found["languages"] == ["es", "fi", "pt"]
    assert found["features"] == settings.features.model_dump(mode="json")
    assert (found["split_label"], found["n_clips"], found["n_groups"]) == ("group-disjoint", 720, 60)
    assert (found["format"], found["temperature"], found["weights_sha256"]) == (1, 1.0, "0123")
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes == {"samples": ["windows", found["input"]["samples"]], "lengths": ["windows"]}
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("probabilities", ["windows", 3])]


@pytest.mark.parametrize("threshold", [0.9999, 0.0001])
def test_below_the_threshold_the_answer_is_unknown(
    tmp_path: Path, threshold: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = untrained_model(tmp_path / "model", unknown_threshold=threshold)
    (tmp_path / "export").mkdir()
    (tmp_path / "export/model.onnx").write_bytes(to_onnx(*load_model(folder), {}))
    soundfile.write(tmp_path / "a.wav", speech_like(5, 1.0), 16000)
    for name in ("model", "export"):
        assert main(["--all-sound", "--model", str(tmp_path / name), str(tmp_path / "a.wav")]) == 0
        words = capsys.readouterr().out.split()
        assert main(["--all-sound", "--json", "--model", str(tmp_path / name), str(tmp_path / "a.wav")]) == 0
        found = json.loads(capsys.readouterr().out)
        best, probability = found["ranking"][0]
        assert found["probability"] == probability
        if threshold > 0.5:
            assert words[1:3] == ["unknown", best]
            assert found["language"] == "unknown"
        else:
            assert words[1] == found["language"] == best


def test_a_conversion_that_went_wrong_is_seen(tmp_path: Path) -> None:
    network, settings = load_model(untrained_model(tmp_path))
    data = to_onnx(network, settings, {})
    weights = network.get_weights()
    weights[-2] = -weights[-2]
    network.set_weights(weights)
    assert distance_from_pipeline(data, network, settings.features, settings.temperature) > TOLERANCE


def test_same_model_same_bytes(tmp_path: Path, make_project: Callable[..., Project]) -> None:
    project = make_project(tmp_path)
    untrained_model(project.folder / "models/calibrated", temperature=1.7)
    found = []
    for seed in ("1", "2"):
        project.run("env", f"PYTHONHASHSEED={seed}", "python", "-m", "stages.export")
        found.append(project.bytes_of("models/export"))
    assert found[0] == found[1]
    assert list(found[0]) == ["models/export/model.onnx"]
    told = json.loads((project.folder / "metrics/export/metrics.json").read_text())
    assert told["distance_from_pipeline"] <= TOLERANCE
    assert told["onnx_bytes"] == (project.folder / "models/export/model.onnx").stat().st_size


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    write_params(tmp_path / "params.yaml", {})
    done = subprocess.run(
        [sys.executable, "-m", "stages.export"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 74
    assert "expected a trained model in models/calibrated" in done.stderr
    assert "run `dvc repro calibrate`" in done.stderr


@pytest.mark.slow
def test_200_clips_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model that `make repro` left."""
    clips = sorted((ROOT / "data/demo/clips").glob("*/*.mp3"), key=lambda path: path.name[::-1])[:200]
    exported, trained = ROOT / "models/export", ROOT / "models/calibrated"
    if len(clips) < 200 or not (exported / "model.onnx").is_file() or not (trained / "model.json").is_file():
        pytest.skip("needs the demo corpus and its model: `make repro`")
    recognizer, reference = Recognizer(exported), Recognizer(trained)
    compared = 0
    for path, found in zip(clips, recognizer.recognize_all(clips), strict=True):
        expected = reference.recognize(path)
        assert isinstance(found, Recognition)
        distances = [abs(dict(found.ranking)[name] - p) for name, p in expected.ranking]
        assert max(distances) < TOLERANCE, path
        first, second = expected.ranking[:2]
        assert found.language == first[0] or first[1] - second[1] < 2 * TOLERANCE, path
        compared += 1
    assert compared == 200
