"""app.predict against the pipeline: the same images, the same probabilities, and a clear word for every bad file."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import ROOT, Project, speech_like, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from app import Recognition, Recognizer, onnx_model
from app.keras_model import KerasModel, images_of
from app.onnx_model import OnnxModel
from app.predict import main
from app.sound import read_samples
from stages import resize
from stages.decode import decode_file
from stages.export import TOLERANCE
from stages.learning.dataset import Images, index_windows
from stages.learning.metrics import pool_windows, temper
from stages.learning.model_file import load_settings
from stages.learning.scoring import predict_windows
from stages.pipeline.errors import RejectedClip
from stages.pipeline.ffmpeg_pipe import find_ffmpeg
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.shards import Shard, list_shards
from stages.resample import resample

SMALL: dict[str, Any] = {
    "manifest": {"clips_per_shard": 8},
    "logmel": {"n_mels": 40},
    "resize": {"height": 32, "width": 32, "window_seconds": 1.0, "stride_seconds": 1.0},
    "train": {"epochs": 2, "batch_size": 8, "precision": "float32", "augment": {"crop_columns": 16}},
    "evaluate": {"bootstrap_samples": 100},
    "execution": {"workers": 1},
}


@dataclass(frozen=True)
class Trained:
    """A project in which the whole pipeline has run."""

    project: Project
    corpus: Path

    @property
    def model(self) -> Path:
        return self.project.folder / "models/calibrated"

    @property
    def export(self) -> Path:
        return self.project.folder / "models/export"

    def rows(self, split: str) -> list[Row]:
        rows = read_manifest(self.project.folder / "data/manifest.csv")
        return [row for row in rows if row.split == split]

    def predict(self, *arguments: str, status: int = 0, cwd: Path | None = None) -> tuple[str, str]:
        """Standard output and standard error of the command line."""
        done = subprocess.run(
            [sys.executable, "-m", "app.predict", "--all-sound", "--model", str(self.export), *arguments],
            cwd=cwd or self.corpus,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr


def mixed_corpus(folder: Path) -> Path:
    """WAV, stereo FLAC at 44.1 kHz and MP3 of 0.7 to 4 s, so that resampling, padding and several windows occur."""
    write_corpus(folder, languages=3, groups=4, clips=2)
    for number, path in enumerate(sorted(folder.rglob("*.wav"))):
        seconds = (0.7, 1.0, 2.6, 4.0)[number % 4]
        if number % 3 == 1:
            stereo = np.stack([speech_like(number + k, seconds, 44100) for k in (0, 500)], axis=1)
            soundfile.write(path.with_suffix(".flac"), stereo, 44100)
            path.unlink()
        elif number % 3 == 2:
            soundfile.write(path.with_suffix(".mp3"), speech_like(number, seconds, 22050), 22050)
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = tmp_path_factory.mktemp("predict")
    corpus = mixed_corpus(place / "corpus")
    project = Project(place / "project", corpus)
    project.set(**SMALL)
    project.stage("manifest", "decode", "resample", "logmel", "resize", "train", "calibrate", "evaluate", "export")
    return Trained(project, corpus)


@pytest.fixture(scope="module")
def recognizer(trained: Trained) -> Recognizer:
    """The exported model, as predict takes it; what stands for speech here is noise to the speech detector."""
    return Recognizer(trained.export, all_sound=True)


@pytest.fixture(scope="module")
def keras_recognizer(trained: Trained) -> Recognizer:
    return Recognizer(trained.model, all_sound=True)


def test_images_are_the_bytes_that_the_stages_make(trained: Trained) -> None:
    features = load_settings(trained.model).features
    compared, windows = 0, set()
    for path in list_shards(trained.project.folder / "data/features"):
        with Shard(path) as shard:
            for i, name in enumerate(shard.paths):
                images, seconds = images_of(trained.corpus / name, features)
                assert np.array_equal(images, shard.clip(i)), name
                assert seconds > 0.6
                compared += 1
                windows.add(len(images))
    assert compared == 24
    assert windows >= {1, 3, 4}


def test_probabilities_are_those_that_evaluate_scores(
    trained: Trained, keras_recognizer: Recognizer, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Keras model gives what evaluate scored; the exported one the same within the tolerance of the export."""
    monkeypatch.chdir(trained.project.folder)
    model = keras_recognizer.model
    assert isinstance(model, KerasModel)
    languages = list(model.languages)
    found = index_windows(Path("data/features"), read_manifest(), languages, "test")
    probabilities = predict_windows(model.network, Images(found, 0), 128)
    scores = pool_windows(probabilities, found.clip, len(found.clips))
    expected = np.exp(temper(scores, model.settings.temperature))
    with Path("metrics/evaluate/predictions.csv").open(newline="") as handle:
        table = {row["id"]: row for row in csv.DictReader(handle)}
    assert len(table) == len(found.clips) > 2
    for row, reference in zip(found.clips, expected, strict=True):
        result = keras_recognizer.recognize(trained.corpus / row.path)
        assert np.allclose([dict(result.ranking)[one] for one in languages], reference, rtol=0, atol=1e-5)
        assert result.language == table[row.id]["predicted"]
        # the table has four digits
        assert result.probability == pytest.approx(float(table[row.id]["probability"]), abs=6e-5)

        result = recognizer.recognize(trained.corpus / row.path)
        assert np.allclose([dict(result.ranking)[one] for one in languages], reference, rtol=0, atol=TOLERANCE)


def test_both_models_agree_on_every_recording(
    trained: Trained, keras_recognizer: Recognizer, recognizer: Recognizer
) -> None:
    """Several windows, windows that end early, other rates and channels."""
    paths = sorted(path for path in trained.corpus.rglob("*") if path.is_file())
    exported = recognizer.recognize_all(paths)
    seen = set()
    for path, found in zip(paths, exported, strict=True):
        expected = keras_recognizer.recognize(path)
        assert isinstance(found, Recognition)
        first, second = expected.ranking[:2]
        assert found.language == first[0] or first[1] - second[1] < 2 * TOLERANCE
        assert np.allclose([dict(found.ranking)[name] for name, _ in expected.ranking],
                           [p for _, p in expected.ranking], rtol=0, atol=TOLERANCE)  # fmt: skip
        assert (found.windows, found.seconds) == (expected.windows, expected.seconds)
        seen.add(found.windows)
    assert seen >= {1, 3, 4}


def test_samples_are_those_of_the_stages(trained: Trained, tmp_path: Path) -> None:
    features = load_settings(trained.model).features
    settings = OnnxModel(trained.export).sound
    paths = [path for path in sorted(trained.corpus.rglob("*")) if path.is_file()]
    loud = np.stack([speech_like(k, 35.0, 48000) * 1.4 for k in (1, 2, 3)], axis=1)  # clipped; longer than a block
    soundfile.write(tmp_path / "loud.wav", loud, 48000, subtype="FLOAT")
    ffmpeg = find_ffmpeg(features.decode.ffmpeg)
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", paths[0], tmp_path / "a.m4a"], check=True)
    for path in (*paths, tmp_path / "loud.wav", tmp_path / "a.m4a"):
        pcm, rate_hz = decode_file(path, features.decode)
        samples, seconds = read_samples(path, settings)
        assert np.array_equal(samples[:], resample(pcm, rate_hz, features.resample)), path
        assert seconds == len(pcm) / rate_hz
    for name, sound, reason in (
        ("nan.wav", np.full(16000, np.nan, np.float32), "not_finite"),
        ("silent.wav", np.zeros(16000, np.float32), "silent"),
        ("short.wav", speech_like(1)[:1000], "too_short"),
    ):
        soundfile.write(tmp_path / name, sound, 16000, subtype="FLOAT")
        with pytest.raises(RejectedClip) as fault:
            read_samples(tmp_path / name, settings)
        assert fault.value.reason == reason


@settings(deadline=None)  # a busy machine is no fault
@given(frames=st.integers(1, 5000), size=st.integers(1, 600), stride=st.integers(1, 700))
def test_windows_start_where_those_of_resize_do(frames: int, size: int, stride: int) -> None:
    assert onnx_model.window_starts(frames, size, stride) == resize.window_starts(frames, size, stride)


def test_the_exported_model_needs_little(trained: Trained) -> None:
    """What is not installed by `pip install .[predict]` is not asked for."""
    code = (
        "import sys; from app.predict import main; status = main(sys.argv[1:]); "
        "heavy = {'tensorflow', 'keras', 'scipy', 'librosa', 'h5py', 'joblib', 'pydantic', 'yaml', 'rich', 'ffmpeg'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); sys.exit(status)"
    )
    path = trained.corpus / trained.rows("test")[0].path
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        cwd=trained.project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(path))


def test_a_folder_stands_for_its_recordings(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("b/2.wav", "b/1.WAV", "a.flac", ".hidden.wav", ".git/x.wav", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("words")
        else:
            soundfile.write(tmp_path / name, speech_like(len(name)), 16000)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["--all-sound", "--model", str(trained.export), ".", "empty", "b/2.wav"]) == 1
    out, err = capfd.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines()] == ["./a.flac", "./b/1.WAV", "./b/2.wav", "b/2.wav"]
    assert err.startswith("empty: not_a_file: a folder without recordings")


def test_the_programs_in_the_docs_run(
    trained: Trained, recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    page = (Path(__file__).parent.parent / "docs/export.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert ["onnxruntime" in program for program in programs] == [True, False]
    (tmp_path / "models").symlink_to(trained.project.folder / "models")
    soundfile.write(tmp_path / "recording.wav", speech_like(3, 0.8, 22050), 22050)
    monkeypatch.chdir(tmp_path)
    for program in programs:
        exec(compile(program, "docs/export.md", "exec"), {})  # noqa: S102
        language, probability = capfd.readouterr().out.split()
        expected = recognizer.recognize("recording.wav")
        assert language == expected.language
        assert float(probability) == pytest.approx(expected.probability, abs=TOLERANCE)
    assert all(f"`{name}`" in page for name in OnnxModel(trained.export).metadata)


def test_an_export_of_another_training_is_told(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.project.folder / "models", tmp_path / "models")
    path = str(trained.corpus / trained.rows("test")[0].path)
    monkeypatch.chdir(tmp_path)
    assert main([path]) == 0
    assert capfd.readouterr().err == ""
    for name in ("model.weights.h5", "model.json"):  # the weights, or what was fitted to them
        file = tmp_path / "models/calibrated" / name
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert main([path]) == 0
        assert "models/export was made from an earlier training than models/calibrated" in capfd.readouterr().err
        file.write_bytes(before)


def test_one_line_for_each_recording_and_nothing_else(
    trained: Trained, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.corpus)
    names = [row.path for row in trained.rows("test")][:3]
    assert main(["--all-sound", "--model", str(trained.export), *names, "--top", "2"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for name, line in zip(names, out.splitlines(), strict=True):
        ranking = recognizer.recognize(trained.corpus / name).ranking[:2]
        assert line == "  ".join([name, *(f"{language} {p:.3f}" for language, p in ranking)])


def test_bad_files_get_their_lines_and_the_others_go_on(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = speech_like(1)
    names = ["two\nlines.wav", os.fsdecode(b"caf\xe9.wav"), "-x.wav"]
    for name in names:
        with (tmp_path / name).open("wb") as handle:
            soundfile.write(handle, good, 16000, format="WAV")
    (tmp_path / "notes.mp3").write_text("not a sound\n" * 100)
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    soundfile.write(tmp_path / "short.wav", good[:100], 16000)
    bad = {
        "gone.wav": "missing", "empty.mp3": "empty_file", "folder": "not_a_file", "pipe": "not_a_file",
        "notes.mp3": "not_audio", "short.wav": "too_short",
    }  # fmt: skip
    arguments = ["--", names[0], *bad, *names[1:]]
    monkeypatch.chdir(tmp_path)
    assert main(["--all-sound", "--model", str(trained.export), *arguments]) == 1
    out, err = capfd.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines()] == ["two%0Alines.wav", "caf%E9.wav", "%2Dx.wav"]
    assert [line.split(": ")[:2] for line in err.splitlines()] == [[name, reason] for name, reason in bad.items()]

    out, err = trained.predict("--json", *arguments, status=1, cwd=tmp_path)
    assert err == ""
    records = [json.loads(line) for line in out.splitlines()]
    faults = {record["path"]: record["error"] for record in records if "error" in record}
    assert {name: fault["reason"] for name, fault in faults.items()} == bad
    assert all(set(fault) == {"reason", "detail"} and fault["detail"] for fault in faults.values())
    found = [record for record in records if "error" not in record]
    assert len(found) == 3
    for record in found:
        assert set(record) == {
            "path", "language", "probability", "ranking", "segments", "windows", "seconds", "speech_seconds"
        }  # fmt: skip
        assert record["ranking"][0] == [record["language"], record["probability"]]
        assert sum(p for _, p in record["ranking"]) == pytest.approx(1, abs=1e-5)
        assert [p for _, p in record["ranking"]] == sorted((p for _, p in record["ranking"]), reverse=True)
        assert (record["windows"], record["seconds"]) == (1, 1.0)


def test_a_wrong_path_alone_loads_no_tensorflow(trained: Trained) -> None:
    code = (
        "import sys; from app.predict import main; status = main(sys.argv[1:]); "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--model", str(trained.export), "gone.wav"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gone.wav: missing: there is no such file\n"


def test_without_a_model_it_says_what_to_do(trained: Trained, tmp_path: Path) -> None:
    _, err = trained.predict("--model", str(tmp_path), "gone.wav", status=74)
    assert err.startswith(f"predict: expected a trained model in {tmp_path}, found no model.onnx and no model.json")
    assert "run `make repro` first or name one with --model" in err


def test_a_damaged_model_is_no_model(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.weights.h5").write_bytes(b"junk")
    path = trained.corpus / trained.rows("test")[0].path
    assert main(["--model", str(tmp_path), str(path)]) == 74
    out, err = capfd.readouterr()
    assert out == ""
    assert "does not describe a model of this version" in err


@pytest.mark.parametrize("damage", ["junk", "cut", "other"])
def test_a_damaged_export_is_no_model(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    data = (trained.export / "model.onnx").read_bytes()
    other = data.replace(b'"before"', b'"sooner"')
    (tmp_path / "model.onnx").write_bytes({"junk": b"junk", "cut": data[:10000], "other": other}[damage])
    path = trained.corpus / trained.rows("test")[0].path
    assert main(["--model", str(tmp_path), str(path)]) == 74
    out, err = capfd.readouterr()
    assert out == ""
    assert f"{tmp_path / 'model.onnx'} is not a model of this version" in err
    assert "Run `dvc repro export`" in err


@pytest.mark.parametrize("arguments", [[], ["--top", "0", "a.wav"], ["--top", "many", "a.wav"], ["--no-such", "a.wav"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m app.predict")


def test_a_reader_that_leaves_is_no_fault(trained: Trained) -> None:
    names = " ".join(f"'{trained.corpus / row.path}'" for row in trained.rows("train")[:4])
    predict = f"'{sys.executable}' -m app.predict --all-sound --model '{trained.export}'"
    command = f"{predict} {names} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in {"0", "141"}


def test_a_named_ffmpeg_of_another_machine_is_done_without(trained: Trained) -> None:
    features = load_settings(trained.model).features
    elsewhere = features.model_copy(
        update={"decode": features.decode.model_copy(update={"ffmpeg": "/elsewhere/ffmpeg"})}
    )
    path = trained.corpus / trained.rows("test")[0].path
    assert np.array_equal(images_of(path, elsewhere)[0], images_of(path, features)[0])


def test_onnxruntime_reports_to_nobody(trained: Trained, tmp_path: Path) -> None:
    """It would keep an identifier in the user's cache, and a session in the temporary folder."""
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-m", "app.predict", str(trained.corpus), "--model", str(trained.export)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("ORT_")} | environment,
        capture_output=True,
        check=True,
    )
    assert sorted(tmp_path.rglob("*")) == []
