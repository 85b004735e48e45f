"""The train stage on real shards: it learns, it resumes to the same bytes, it says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from learning_project import LABEL, ROOT, make_project, write_params

from stages.learning.checkpoint import TrainingState, checkpoint_key, load_checkpoint, save_checkpoint
from stages.learning.dataset import Images, index_windows
from stages.learning.model_file import load_model, load_settings
from stages.learning.runtime import keras
from stages.learning.scoring import predict_windows
from stages.learning.sounds import SOUNDS, WindowSounds
from stages.learning.training_run import run_key, sounds_of
from stages.pipeline.errors import PipelineError, SplitError, StorageError
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.params import load_params
from stages.train import run

WEIGHTS = Path("models/model/model.weights.h5")


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(arguments or ("-m", "stages.train"))],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(project: Path, expected: int = 0) -> str:
    process = start(project)
    log = process.communicate(timeout=300)[1]
    assert process.returncode == expected, log
    return log


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project that was trained without a stop, and its log."""
    project = make_project(tmp_path_factory.mktemp("trained"), changes={"train.average_momentum": 0.9})
    return project, train(project)


def test_learns_what_can_be_learned(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    project, log = trained
    monkeypatch.chdir(project)
    model, settings = load_model()
    assert settings.languages == ("l0", "l1", "l2")
    windows = index_windows(Path("data/features"), read_manifest(), settings.languages, "test")
    found = predict_windows(model, Images(windows, 1), 32).argmax(axis=1)
    assert (found == windows.label).mean() > 0.9
    assert "3 languages" in log
    assert LABEL in log
    assert "Traceback" not in log
    assert "oneDNN" not in log, "TensorFlow's greeting is kept back"


def test_leaves_what_the_contract_names(trained: tuple[Path, str]) -> None:
    project, _ = trained
    assert sorted(path.name for path in (project / "models/model").iterdir()) == [
        "MODEL_CARD.md", "model.json", "model.weights.h5",
    ]  # fmt: skip
    settings = load_settings(project / "models/model")
    assert settings.features.resize.height == 48
    assert settings.split_label == LABEL
    assert settings.temperature == 1.0
    summary = json.loads((project / "metrics/train/metrics.json").read_text())
    assert set(summary) == {
        "epochs", "best_epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
    }  # fmt: skip
    curves = project / "metrics/train/plots/metrics"
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "learning_rate"):
        lines = (curves / f"{name}.tsv").read_text().splitlines()
        assert len(lines) == 1 + summary["epochs"], name
    assert not list((project / "data/.checkpoints").glob("*")), "a finished run leaves no checkpoint"


def killed_after_two_epochs(project: Path) -> None:
    process = start(project)
    checkpoints = project / "data/.checkpoints"
    deadline = time.monotonic() + 120
    state = None
    while state is None or state.epoch < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
        for path in checkpoints.glob("*.npz"):
            state = load_checkpoint(path)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def killed_and_resumed(reference: Path, folder: Path) -> Path:
    """A copy of a trained project in `folder`, trained anew with a kill in the middle."""
    project = folder / "project"
    shutil.copytree(reference, project)
    shutil.rmtree(project / "models")
    killed_after_two_epochs(project)
    assert not (project / "models").exists()
    assert "going on after epoch" in train(project)
    return project


def test_killed_and_resumed_is_the_same_bytes(trained: tuple[Path, str], tmp_path: Path) -> None:
    reference, _ = trained
    project = killed_and_resumed(reference, tmp_path)
    for name in (WEIGHTS, WEIGHTS.with_name("model.json"), Path("metrics/train/metrics.json")):
        assert (project / name).read_bytes() == (reference / name).read_bytes(), name
    for path in sorted((reference / "metrics/train").rglob("*.tsv")):
        other = project / path.relative_to(reference)
        assert other.read_bytes() == path.read_bytes(), path


def test_streaming_learns_as_well_and_resumes_to_the_same_bytes(trained: tuple[Path, str], tmp_path: Path) -> None:
    reference, _ = trained
    project = tmp_path / "project"
    shutil.copytree(reference, project)
    write_params(project / "params.yaml", values_of(reference) | {"train.memory_gb": 0})
    train(project)
    streamed = (project / WEIGHTS).read_bytes()
    model, settings = load_model(project / "models/model")
    windows = index_windows(
        project / "data/features", read_manifest(project / "data/manifest.csv"), settings.languages, "test"
    )
    assert (predict_windows(model, Images(windows, 0), 32).argmax(axis=1) == windows.label).mean() > 0.9
    shutil.rmtree(project / "models")
    killed_after_two_epochs(project)
    assert "going on after epoch" in train(project)
    assert (project / WEIGHTS).read_bytes() == streamed


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    changes: dict[str, object] = {
        "resize.window_seconds": 10, "train.architecture": "phonetic", "train.augment.crop_columns": 0,
        "train.epochs": 10,
    }  # fmt: skip
    project = make_project(tmp_path_factory.mktemp("hearing") / "p", changes=changes)
    return project, train(project)


def test_the_network_learns_to_hear_what_is_said(hearing: tuple[Path, str]) -> None:
    project, log = hearing
    assert "it is known what is said in them" in log
    model, settings = load_model(project / "models/model")
    rows = read_manifest(project / "data/manifest.csv")
    windows = index_windows(project / "data/features", rows, settings.languages, "test")
    images = Images(windows, 1)
    assert (predict_windows(model, images, 32).argmax(axis=1) == windows.label).mean() > 0.9
    hears = keras.Model(model.input, model.get_layer("sounds").output)
    heard = np.asarray(hears(images.take(np.arange(len(windows)))[..., None])).argmax(axis=2)  # (windows, frames)
    said = np.array([SOUNDS.index("aiu"[label]) for label in windows.label])
    middle = heard[:, heard.shape[1] // 3 : heard.shape[1] * 2 // 3]  # a pause before and after
    assert (middle == said[:, None]).mean() > 0.8
    assert (heard[:, :2] == 0).mean() > 0.8


@pytest.mark.slow
def test_what_hears_sounds_resumes_to_the_same_bytes_too(hearing: tuple[Path, str], tmp_path: Path) -> None:
    reference, _ = hearing
    project = killed_and_resumed(reference, tmp_path)
    assert (project / WEIGHTS).read_bytes() == (reference / WEIGHTS).read_bytes()


def test_a_checkpoint_of_other_sounds_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "p", changes={"train.architecture": "phonetic"}))
    params, rows = load_params(Path("params.yaml")), read_manifest()

    def key(sounds: WindowSounds | None) -> str:
        return run_key(params.train, rows, sounds)

    windows = index_windows(Path("data/features"), rows, ["l0", "l1", "l2"], "train")
    sounds = sounds_of(windows, params)
    first = key(sounds)
    assert key(sounds) == first != key(None)
    table = Path("data/sounds.csv")
    table.write_text(table.read_text().replace("8.000", "7.000"))
    assert key(sounds) != first


def test_a_corpus_that_tells_no_sounds_is_learned_all_the_same(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", changes={"train.architecture": "phonetic", "train.epochs": 1})
    (project / "data/sounds.csv").write_text("id,seconds,sounds\n")
    assert "it is known what is said" not in train(project)
    (project / "data/sounds.csv").unlink()
    assert "run `dvc repro manifest`" in train(project, expected=74)


def values_of(project: Path) -> dict[str, object]:
    """The changes that make_project wrote, read back from the model."""
    settings = load_settings(project / "models/model")
    plain = settings.train.model_dump(mode="json")
    augment = {f"train.augment.{key}": value for key, value in plain.pop("augment").items()}
    resize = settings.features.resize.model_dump(mode="json")
    return {f"resize.{k}": v for k, v in resize.items()} | {f"train.{k}": v for k, v in plain.items()} | augment


def test_cnn5_without_validation_runs_all_epochs_and_keeps_the_last(tmp_path: Path) -> None:
    changes: dict[str, object] = {
        "train.architecture": "cnn5", "train.optimizer": "nadam", "train.schedule": "steps", "train.epochs": 3,
        "train.learning_rates": [[0, 1e-3], [2, 1e-4]], "train.augment.crop_columns": 0, "train.patience": 1,
        "train.precision": "bfloat16", "train.weight_decay": 0, "train.label_smoothing": 0, "train.dropout": 0.5,
    }  # fmt: skip
    project = make_project(
        tmp_path / "p", languages=2, clips_per_group=3, split_of_group=("train", "train", "test"), changes=changes
    )
    train(project)
    summary = json.loads((project / "metrics/train/metrics.json").read_text())
    assert summary["epochs"] == summary["best_epoch"] == 3
    assert "validation_accuracy" not in summary
    rates = (project / "metrics/train/plots/metrics/learning_rate.tsv").read_text().split()
    assert [float(rate) for rate in rates[3::2]] == pytest.approx([1e-3, 1e-3, 1e-4])
    model, settings = load_model(project / "models/model")
    assert settings.architecture == "cnn5"
    assert model.layers[1].compute_dtype == "float32", "trained in bfloat16, used in float32"


def test_two_devices_share_a_batch(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", languages=2, clips_per_group=4, changes={"train.epochs": 16})
    program = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stages.pipeline.stage_main import stage_main
sys.exit(stage_main("train"))
"""
    process = start(project, "-c", program)
    log = process.communicate(timeout=300)[1]
    assert process.returncode == 0, log
    assert "shared by 2 devices" in log
    model, settings = load_model(project / "models/model")
    windows = index_windows(
        project / "data/features", read_manifest(project / "data/manifest.csv"), settings.languages, "train"
    )
    found = predict_windows(model, Images(windows, 1), 32).argmax(axis=1)
    assert (found == windows.label).mean() > 0.8


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "p", languages=2, clips_per_group=3,
        changes={"train.epochs": 40, "train.patience": 2, "train.learning_rate": 0.01},
    )  # fmt: skip
    log = train(project)
    summary = json.loads((project / "metrics/train/metrics.json").read_text())
    assert "stopped early" in log
    assert summary["epochs"] == summary["best_epoch"] + 2 < 40
    table = (project / "metrics/train/plots/metrics/validation/accuracy.tsv").read_text().splitlines()
    values = [float(line.split("\t")[1]) for line in table[1:]]
    assert max(values) == values[summary["best_epoch"] - 1]


def test_faults_are_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "p", languages=1, clips_per_group=2)
    monkeypatch.chdir(project)
    with pytest.raises(SplitError, match="at least two languages"):
        run(load_params())
    record = project / "data/manifest.json"
    good = record.read_text()
    record.write_text("{}")
    with pytest.raises(StorageError, match="dvc repro manifest"):
        run(load_params())
    record.write_text(good)
    shutil.rmtree(project / "data/features")
    assert "expected shards" in train(project, expected=74)


# --- checkpoint and model file, without a training run


def test_checkpoint_round_trip_and_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "key.npz"
    assert load_checkpoint(path) is None
    state = TrainingState(3, [np.arange(4.0)], [np.array(7)], [], [np.eye(2)], 1, [{"epoch": 0, "loss": 0.1}])
    save_checkpoint(path, state)
    back = load_checkpoint(path)
    assert back is not None
    assert (back.epoch, back.best_epoch, back.history) == (3, 1, [{"epoch": 0, "loss": 0.1}])
    assert (back.variables[0] == state.variables[0]).all()
    assert back.optimizer[0] == 7
    assert back.average == []
    assert [p.name for p in path.parent.iterdir()] == ["key.npz"]
    path.write_bytes(path.read_bytes()[:200])
    assert load_checkpoint(path) is None
    with path.open("wb") as handle:
        np.savez(handle, plain=np.array([{}], dtype=object))  # a pickle inside
    assert load_checkpoint(path) is None


def test_checkpoint_key_changes_with_all_that_matters(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("1")
    key = checkpoint_key({"epochs": 1}, features=[("a", "0")], sources=[source])
    assert key == checkpoint_key({"epochs": 1}, features=[("a", "0")], sources=[source])
    assert key != checkpoint_key({"epochs": 2}, features=[("a", "0")], sources=[source])
    assert key != checkpoint_key({"epochs": 1}, features=[("a", "1")], sources=[source])
    source.write_text("2")
    assert key != checkpoint_key({"epochs": 1}, features=[("a", "0")], sources=[source])


@pytest.fixture
def model_folder(trained: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0] / "models/model", tmp_path / "model"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loading_refuses_what_is_not_ours(model_folder: Path) -> None:
    good = (model_folder / "model.json").read_text()
    for changes, message in (
        ({"format": 2}, "format"),
        ({"languages": ["l0", "l0", "l1"]}, "stands twice"),
        ({"languages": ["l0", "l1"]}, "expected .* arrays of the shapes"),
        ({"architecture": "os.system"}, "architecture"),
        ({"surprise": 1}, "surprise"),
    ):
        edit(model_folder, **changes)
        with pytest.raises(PipelineError, match=message):
            load_model(model_folder)
        (model_folder / "model.json").write_text(good)
    for text in ("", "[]", "{" * 100_000, '"x"'):
        (model_folder / "model.json").write_text(text)
        with pytest.raises(PipelineError, match="does not describe a model"):
            load_model(model_folder)
    (model_folder / "model.json").unlink()
    with pytest.raises(StorageError, match="dvc repro train"):
        load_model(model_folder)


def test_loads_a_model_from_before_intensity_was_a_choice(model_folder: Path) -> None:
    path = model_folder / "model.json"
    values = json.loads(path.read_text())
    del values["features"]["resize"]["intensity"]
    path.write_text(json.dumps(values))
    assert load_settings(model_folder).features.resize.intensity == "log"


def test_loading_refuses_hostile_weights(model_folder: Path, tmp_path: Path) -> None:
    path = model_folder / "model.weights.h5"
    good = path.read_bytes()

    def first(file: h5py.File) -> str:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return next(name for name in names if file[name].size > 100)

    def external(file: h5py.File) -> None:
        name = first(file)
        shape = file[name].shape
        del file[name]
        secret = tmp_path / "secret"
        secret.write_bytes(b"0" * 4 * int(np.prod(shape)))
        file.create_dataset(name, shape, "float32", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def link(file: h5py.File) -> None:
        name = first(file)
        del file[name]
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")

    def shape(file: h5py.File) -> None:
        name = first(file)
        del file[name]
        file[name] = np.zeros(3, "float32")

    def not_finite(file: h5py.File) -> None:
        file[first(file)][...] = np.nan

    for change, message in (
        (external, "no plain numbers"),
        (link, "is a link"),
        (shape, "arrays of the shapes"),
        (not_finite, "no finite numbers"),
    ):
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(PipelineError, match=message):
            load_model(model_folder)
        path.write_bytes(good)
    for text in (b"", b"\x80\x04pickle", good[: len(good) // 2]):
        path.write_bytes(text)
        with pytest.raises(PipelineError, match="not a file of weights"):
            load_model(model_folder)
    path.unlink()
    with pytest.raises(StorageError, match=path.name):
        load_model(model_folder)
