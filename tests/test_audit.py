"""The audit on small corpora that went through the real stages: planted shortcuts and copies are found, others not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import yaml
from conftest import Project, make_params
from scipy.signal import butter, sosfilt

from faults.sounds import run_ffmpeg
from stages import audit, decode, logmel, manifest, resample
from stages.auditing.near_duplicates import Grid, find_candidates
from stages.auditing.probes import Score
from stages.auditing.same_sound import LEAST_CORRELATION, compare
from stages.auditing.verdict import gives_away
from stages.logmel import log_mel
from stages.pipeline.data_params import LogmelParams
from stages.pipeline.errors import StorageError
from stages.pipeline.layouts import find_recordings
from stages.pipeline.manifest_table import read_manifest, write_manifest
from stages.pipeline.params import Params

RATE_HZ = 16000
SPLITS = ("train",) * 10 + ("validation",) + ("test",) * 6  # of the voices
Change = Callable[[np.ndarray, int], np.ndarray]
MakeCorpus = Callable[..., Params]


def talk(seed: int, voice: int, seconds: float = 2.0) -> np.ndarray:
    """Made-up syllables with pauses between them in a room with some noise, float32 (samples,)."""
    rng = np.random.default_rng([seed, voice])
    pitch_hz = 90 + 9 * voice
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE_HZ:
        n = int(rng.uniform(0.06, 0.2) * RATE_HZ)
        at_hz = np.arange(1, 40) * pitch_hz * rng.uniform(0.9, 1.1)
        formants = rng.uniform([300, 900, 2000], [900, 2000, 3500])
        height = np.exp(-(((at_hz[:, None] - formants) / 200) ** 2)).sum(axis=1) + 0.02
        tone = height @ np.sin(2 * np.pi * at_hz[:, None] * np.arange(n) / RATE_HZ)
        parts += [tone * np.hanning(n), np.zeros(int(rng.uniform(0.02, 0.12) * RATE_HZ))]
    sound = np.concatenate(parts)[: int(seconds * RATE_HZ)]
    sound = 0.3 * sound / np.abs(sound).max()
    return np.asarray(sound + 0.001 * rng.standard_normal(len(sound)), np.float32)


def same(sound: np.ndarray, language: int) -> np.ndarray:
    return sound


def hum(sound: np.ndarray, language: int) -> np.ndarray:
    """The mains of another country."""
    return sound + 0.003 * np.sin(2 * np.pi * (200, 240)[language] * np.arange(len(sound)) / RATE_HZ)


def band_limit(sound: np.ndarray, language: int) -> np.ndarray:
    """One language comes from the telephone."""
    out: np.ndarray = sosfilt(butter(8, 3400, fs=RATE_HZ, output="sos"), sound) if language else sound
    return out


@pytest.fixture
def make_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCorpus:
    """A corpus of two languages that the same voices speak, taken to data/logmel; the folder is the current one."""

    def make(
        change: Change = same, suffixes: tuple[str, str] = ("wav", "wav"), extra: Any = None, **changes: Any
    ) -> Params:
        folder = tmp_path / "corpus"
        folder.mkdir()
        rows = []
        for voice, split in enumerate(SPLITS):
            for language in range(2):
                for k in range(2):
                    path = f"l{language}-v{voice}-{k}.{suffixes[language]}"
                    sound = change(talk(10 * language + k, voice), language)
                    soundfile.write(folder / path, sound, RATE_HZ)
                    rows.append([path, f"l{language}", f"v{voice}", split])
        if extra:
            rows += extra(folder)
        with (folder / "corpus.csv").open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([["path", "language", "group", "split"], *rows])
        monkeypatch.chdir(tmp_path)
        params = make_params(
            dataset=str(folder), execution={"workers": 1}, **{"audit": {"bootstrap_samples": 200}, **changes}
        )
        Path("params.yaml").write_text(yaml.safe_dump(json.loads(params.model_dump_json())), encoding="utf-8")
        for stage in (manifest, decode, resample, logmel):
            stage.run(params)
        return params

    return make


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("metrics/audit/metrics.json").read_text(encoding="utf-8"))
    return found


def table(name: str) -> list[dict[str, str]]:
    with Path(f"metrics/audit/{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def results() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("metrics/audit").iterdir())}


def test_a_clean_corpus_is_not_accused_and_gives_the_same_bytes_twice(make_corpus: MakeCorpus) -> None:
    params = make_corpus()
    audit.run(params)
    found = metrics()
    assert found["finding"] == "fit"
    assert (found["exact_duplicates"], found["near_duplicates"], found["straddling_groups"]) == (0, 0, 0)
    assert found["test_groups"] == 6
    assert table("near_duplicates") == table("suggested_groups") == []
    assert {line["property"] for line in table("properties")} >= {"container", "codec", "bitrate", "duration"}
    assert {line["test_groups"] for line in table("groups")} == {"6"}
    first = results()
    audit.run(params)
    assert results() == first


@pytest.mark.parametrize("change", [hum, band_limit])
def test_a_shortcut_in_the_sound_is_found(make_corpus: MakeCorpus, change: Change) -> None:
    audit.run(make_corpus(change))
    assert metrics()["finding"] == "recording"
    assert metrics()["probes"]["silence"]["manifest_low"] > 0.8
    assert "the pauses between the words alone give it away" in Path("metrics/audit/verdict.txt").read_text()


def test_a_shortcut_in_the_files_is_found_and_the_gate_closes(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    params = make_corpus(suffixes=("wav", "ogg"), audit={"fail_above": 0.7, "bootstrap_samples": 200})
    project = Project(tmp_path / "project", tmp_path / "corpus")
    for name in ("manifest.csv", "decoded", "logmel"):
        (tmp_path / "data" / name).rename(project.folder / "data" / name)
    project.set(audit=params.audit.model_dump())
    output = project.stage("audit", status=4)
    assert "expected no shortcut to score more than audit.fail_above = 0.7" in output
    assert "the properties of the files 1.000" in output
    told = (project.folder / "metrics/audit/verdict.txt").read_text()
    assert "measures the recording as well as the language" in told
    with (project.folder / "metrics/audit/properties.csv").open(newline="") as handle:
        accuracy = {line["property"]: line["manifest_accuracy"] for line in csv.DictReader(handle)}
    assert accuracy["codec"] == accuracy["container"] == "1.0"


def planted(folder: Path) -> list[list[str]]:
    """Test clips again in training, under another voice: as MP3 and softer, as Opus and cut, as WAV and delayed."""
    quiet = np.zeros(int(0.73 * RATE_HZ), np.float32)
    copies = {
        "copy.mp3": 0.25 * soundfile.read(folder / "l0-v12-0.wav")[0],
        "copy.ogg": soundfile.read(folder / "l1-v13-1.wav")[0][int(0.31 * RATE_HZ) :],
        "copy.wav": np.concatenate([quiet, 0.5 * soundfile.read(folder / "l0-v14-1.wav")[0]]),
    }
    for name, sound in copies.items():
        subtype = "OPUS" if name.endswith("ogg") else None
        soundfile.write(folder / name, sound, RATE_HZ, subtype=subtype)
    return [[name, "l0", "copyist", "train"] for name in copies]


def test_copies_across_splits_are_found_and_nothing_else(make_corpus: MakeCorpus) -> None:
    audit.run(make_corpus(extra=planted))
    pairs = {frozenset((line["path"], line["other_path"])) for line in table("near_duplicates")}
    assert pairs == {
        frozenset(("copy.mp3", "l0-v12-0.wav")),
        frozenset(("copy.ogg", "l1-v13-1.wav")),
        frozenset(("copy.wav", "l0-v14-1.wav")),
    }
    late = {line["path"]: line for line in table("near_duplicates")} | {
        line["other_path"]: line for line in table("near_duplicates")
    }
    assert abs(float(late["copy.wav"]["later_seconds"])) == pytest.approx(0.73, abs=0.05)
    assert metrics()["finding"] == "copies"
    assert Path("metrics/audit/verdict.txt").read_text().startswith("Do not trust a score on this split: 3 clips")


def test_what_is_too_little_is_said(make_corpus: MakeCorpus) -> None:
    """No test clip, no groups, one voice on both sides, two clips a language: a sentence and no traceback."""
    params = make_corpus()
    rows = read_manifest()
    write_manifest([row for row in rows if row.split != "test"])
    audit.run(params)
    assert metrics()["finding"] == "nothing"
    assert metrics()["probes"]["silence"]["manifest_accuracy"] is None

    write_manifest([row._replace(group=row.id) for row in rows])
    audit.run(params)
    assert metrics()["finding"] == "no_groups"
    assert len(table("suggested_groups")) == len(rows)

    write_manifest([row._replace(group="one") for row in rows])
    audit.run(params)
    assert metrics()["finding"] == "straddling_groups"
    assert metrics()["straddling_groups"] == metrics()["test_groups"] == 1

    write_manifest([row for row in rows if row.group in ("v0", "v12") and "-0." in row.path])
    audit.run(params)
    assert metrics()["finding"] == "nothing"

    write_manifest([row for row in rows if row.group in ("v0", "v1", "v12")])
    audit.run(params)
    assert metrics()["finding"] == "few_groups"
    assert "only 1 voice" in Path("metrics/audit/verdict.txt").read_text()

    write_manifest([])
    with pytest.raises(StorageError, match="run `dvc repro`"):
        audit.run(params)


def test_voices_that_stand_out_are_proposed_as_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers a language, each before a microphone of their own; the table that comes out is a dataset's table."""
    folder = tmp_path / "corpus"
    for language in range(2):
        for reader in range(2):
            cut = butter(2, (1200, 3500)[reader], fs=RATE_HZ, output="sos")
            for k in range(10):
                path = folder / f"l{language}" / f"{'ab'[reader]}{k}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sosfilt(cut, talk(100 * language + k, 3 + 12 * reader)), RATE_HZ)
    monkeypatch.chdir(tmp_path)
    params = make_params(dataset=str(folder), execution={"workers": 1}, manifest={"test_fraction": 0.3})
    for stage in (manifest, decode, resample, logmel, audit):
        stage.run(params)
    assert metrics()["finding"] == "no_groups"
    assert "suggested_groups.csv proposes some" in Path("metrics/audit/verdict.txt").read_text()
    groups: dict[tuple[str, str], set[str]] = {}
    Path("metrics/audit/suggested_groups.csv").rename(folder / "corpus.csv")
    _, entries = find_recordings(str(folder), params.manifest)
    for entry in entries:
        groups.setdefault((entry.language, Path(entry.path).name[0]), set()).add(entry.group)
    assert len(entries) == 40
    assert all(groups.values())
    assert not groups["l0", "a"] & groups["l0", "b"]
    assert not groups["l1", "a"] & groups["l1", "b"]


def test_few_groups_prove_nothing() -> None:
    """Three sources that were all right: by luck in one of eight cases."""

    def score(n_cells: int) -> Score:
        return Score(1.0, 1.0, 1.0, "groups", 0.5, 0.5, 100, 60, n_cells, n_cells)

    assert not gives_away(score(3))
    assert gives_away(score(12))


def mel_of(path: Path, params: LogmelParams) -> np.ndarray:
    sound, rate_hz = soundfile.read(path, dtype="float32")
    pcm = (32767 * soxr.resample(sound, rate_hz, RATE_HZ)).clip(-32768, 32767).astype(np.int16)
    return log_mel(pcm, RATE_HZ, params).astype(np.float32)


def copies(mels: Sequence[np.ndarray], side: np.ndarray, grid: Grid) -> list[tuple[int, int]]:
    candidates = find_candidates([grid.fingerprint(grid.broaden(mel)) for mel in mels], side, grid)
    alike = [compare(mels[one.first], mels[one.second], one.lag * grid.step, grid)[1] for one in candidates]
    return [(c.first, c.second) for c, r in zip(candidates, alike, strict=True) if r >= LEAST_CORRELATION]


@pytest.mark.parametrize(("n_fft", "at_least"), [(1024, 12), (512, 9)])  # a shorter spectrum tells pitches less apart
def test_short_clips_are_found_behind_a_codec_that_leaves_little(tmp_path: Path, n_fft: int, at_least: int) -> None:
    """Of these, from a noisy room over a bad mobile telephone, a third were missed: too many of all bits differ."""
    params = make_params().logmel.model_copy(update={"n_fft": n_fft})
    grid = Grid.of(params.n_mels, RATE_HZ / params.hop_length)
    mels = []
    for number in range(12):
        sound = talk(number, number, 2.2)
        sound += 0.01 * np.random.default_rng(number).standard_normal(len(sound)).astype(np.float32)
        soundfile.write(tmp_path / "clip.wav", sound, RATE_HZ)
        run_ffmpeg("-i", f"{tmp_path}/clip.wav", "-ar", "8000", "-b:a", "4.75k", f"{tmp_path}/clip.amr")
        run_ffmpeg("-i", f"{tmp_path}/clip.amr", f"{tmp_path}/again.wav")
        mels += [mel_of(tmp_path / name, params) for name in ("clip.wav", "again.wav")]
    found = copies(mels, np.arange(24) % 2, grid)
    assert found == [pair for pair in ((2 * n, 2 * n + 1) for n in range(12)) if pair in found], (
        "nothing else, each once"
    )
    assert len(found) >= at_least


def test_noise_that_the_loudest_band_masks_hides_no_copy() -> None:
    """As AMR at 12.2 kbit/s leaves it in the valleys between the formants: of these 20 none was found."""
    grid = Grid.of(192, 50.0)
    rng = np.random.default_rng(5)
    prints = []
    for _ in range(20):
        movement = np.cumsum(rng.normal(0, 1, (60, grid.bits + 1)), axis=0)
        clip = movement - 20 * (1 - np.cos(np.arange(grid.bits + 1) / 3 + rng.uniform(0, 6)))  # dB
        noise = clip.max(axis=1, keepdims=True) - 25 + rng.normal(0, 4, clip.shape)
        coded = 10 * np.log10(10 ** (clip / 10) + 10 ** (noise / 10))
        prints += [grid.fingerprint(clip), grid.fingerprint(coded)]
    found = find_candidates(prints, np.arange(40) % 2, grid)
    assert len(found) >= 18
    assert all((one.first, one.second) == (one.first, one.first + 1) for one in found)


@pytest.mark.parametrize(("seconds_alike", "are_copies"), [(1.6, False), (2.9, True)])
def test_clips_that_only_begin_alike_are_no_copies(seconds_alike: float, are_copies: bool) -> None:
    """Two lists of names that began with the same one, for half of their 3 s, passed for copies."""
    params = make_params().logmel
    grid = Grid.of(params.n_mels, RATE_HZ / params.hop_length)
    mels = []
    for number in range(10):
        beginning = talk(number, number, seconds_alike)
        for other in (100, 200):
            sound = np.concatenate([beginning, talk(other + number, number, 3 - seconds_alike)])
            mels.append(log_mel((32767 * sound).astype(np.int16), RATE_HZ, params).astype(np.float32))
    side = np.arange(20) % 2
    assert len(find_candidates([grid.fingerprint(grid.broaden(mel)) for mel in mels], side, grid)) >= 5
    assert copies(mels, side, grid) == ([(2 * n, 2 * n + 1) for n in range(10)] if are_copies else [])


@pytest.mark.parametrize("axis_bands", [8, 32, 192])
def test_a_coarse_spectrum_finds_nothing_rather_than_copies_everywhere(axis_bands: int) -> None:
    params = make_params(logmel={"n_mels": axis_bands, "n_fft": 2048}).logmel
    grid = Grid.of(axis_bands, RATE_HZ / params.hop_length)
    sounds = [talk(1, 1, 4.0), talk(2, 2, 4.0), 0.5 * talk(1, 1, 4.0)]
    mels = [log_mel((32767 * sound).astype(np.int16), RATE_HZ, params).astype(np.float32) for sound in sounds]
    assert copies(mels, np.arange(3), grid) == ([(0, 2)] if axis_bands > 8 else [])
