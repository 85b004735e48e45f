"""app.predict against the pipeline: the same images, the same probabilities, and a clear word for every bad file."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Project, speech_like, write_corpus

from app.predict import main
from app.recognizer import Recognizer, images_of
from stages.learning.dataset import Images, index_windows
from stages.learning.metrics import pool_windows, temper
from stages.learning.model_file import load_settings
from stages.learning.scoring import predict_windows
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.shards import Shard, list_shards

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
        return self.project.folder / "models/model"

    def rows(self, split: str) -> list[Row]:
        rows = read_manifest(self.project.folder / "data/manifest.csv")
        return [row for row in rows if row.split == split]

    def predict(self, *arguments: str, status: int = 0, cwd: Path | None = None) -> tuple[str, str]:
        """Standard output and standard error of the command line."""
        done = subprocess.run(
            [sys.executable, "-m", "app.predict", "--model", str(self.model), *arguments],
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
    project.stage("manifest", "decode", "resample", "logmel", "resize", "train", "evaluate")
    return Trained(project, corpus)


@pytest.fixture(scope="module")
def recognizer(trained: Trained) -> Recognizer:
    return Recognizer(trained.model)


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
    trained: Trained, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.project.folder)
    languages = list(recognizer.settings.languages)
    found = index_windows(Path("data/features"), read_manifest(), languages, "test")
    probabilities = predict_windows(recognizer._model, Images(found, 0), 128)
    scores = pool_windows(probabilities, found.clip, len(found.clips))
    expected = np.exp(temper(scores, recognizer.settings.temperature))
    with Path("metrics/evaluate/predictions.csv").open(newline="") as handle:
        table = {row["id"]: row for row in csv.DictReader(handle)}
    assert len(table) == len(found.clips) > 2
    for row, reference in zip(found.clips, expected, strict=True):
        result = recognizer.recognize(trained.corpus / row.path)
        assert np.allclose([dict(result.ranking)[one] for one in languages], reference, rtol=0, atol=1e-5)
        assert result.language == table[row.id]["predicted"]
        # the table has four digits
        assert result.probability == pytest.approx(float(table[row.id]["probability"]), abs=6e-5)


def test_one_line_for_each_recording_and_nothing_else(
    trained: Trained, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained.corpus)
    names = [row.path for row in trained.rows("test")][:3]
    assert main(["--model", str(trained.model), *names, "--top", "2"]) == 0
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
    assert main(["--model", str(trained.model), *arguments]) == 1
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
        assert set(record) == {"path", "language", "probability", "ranking", "windows", "seconds"}
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
        [sys.executable, "-c", code, "--model", str(trained.model), "gone.wav"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gone.wav: missing: there is no such file\n"


def test_without_a_model_it_says_what_to_do(trained: Trained, tmp_path: Path) -> None:
    _, err = trained.predict("--model", str(tmp_path), "gone.wav", status=74)
    assert err.startswith(f"predict: expected a trained model in {tmp_path}, found no model.json")
    assert "run `make repro` first or name one with --model" in err


def test_a_damaged_model_is_no_model(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.weights.h5").write_bytes(b"junk")
    path = trained.corpus / trained.rows("test")[0].path
    assert main(["--model", str(tmp_path), str(path)]) == 74
    out, err = capfd.readouterr()
    assert out == ""
    assert "does not describe a model of this version" in err


@pytest.mark.parametrize("arguments", [[], ["--top", "0", "a.wav"], ["--top", "many", "a.wav"], ["--no-such", "a.wav"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m app.predict")


def test_a_reader_that_leaves_is_no_fault(trained: Trained) -> None:
    names = " ".join(f"'{trained.corpus / row.path}'" for row in trained.rows("train")[:4])
    command = f"'{sys.executable}' -m app.predict --model '{trained.model}' {names} | head -1; echo ${{PIPESTATUS[0]}}"
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
