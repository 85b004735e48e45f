"""The robustness stage: what is done to the sound is what it says, and the scores are those of evaluate."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from conftest import Project, speech_like
from test_evaluate import with_untrained_model

from stages import robustness
from stages.damage.codecs import CODECS, check_encoders, through_codec
from stages.damage.conditions import (
    SECONDS,
    UNDAMAGED,
    VOICES,
    Condition,
    Damaged,
    Task,
    choose_voices,
    conditions_of,
    cut,
    images_of,
)
from stages.damage.noise import active_power, add_noise, babble, white_noise
from stages.damage.scores import score_conditions
from stages.learning.sound_clips import Clip, choose, find_clips
from stages.pipeline.errors import ParamsError, PipelineError, SplitError
from stages.pipeline.ffmpeg_pipe import find_ffmpeg
from stages.pipeline.manifest_table import read_manifest, write_manifest
from stages.pipeline.model_params import RobustnessParams
from stages.pipeline.params import load_params

RATE_HZ = 16000
DATA = ("manifest", "decode", "resample")
SMALL: dict[str, Any] = {
    "logmel": {"n_mels": 40},
    "resize": {"height": 32, "width": 32, "window_seconds": 1.0, "stride_seconds": 1.0},
    "train": {"augment": {"crop_columns": 16}},
    "evaluate": {"bootstrap_samples": 100},
    "robustness": {"seconds": [0.25, 0.9, 1.5], "codecs": ["g711"], "snr_db": [10, 0], "max_clips": 0},
}


def pcm(sound: np.ndarray, peak: float = 8000.0) -> np.ndarray:
    out: np.ndarray = np.rint(sound / np.abs(sound).max() * peak).astype(np.int16)
    return out


def decibels(power: Any) -> float:
    return float(10 * np.log10(power))


def power_between(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    windowed = np.hanning(len(samples)) * samples  # or the ends would spill over all of the spectrum
    spectrum = np.abs(np.fft.rfft(windowed)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    return float(spectrum[(hz >= low_hz) & (hz < high_hz)].sum())


def half_silent() -> np.ndarray:
    """A second of a tone at a constant level, then a second of nothing."""
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
    return pcm(np.concatenate([tone, np.zeros(RATE_HZ)]))


@pytest.mark.parametrize("snr_db", [20, 5, 0, -5])
@pytest.mark.parametrize("kind", ["white", "babble"])
def test_the_ratio_is_that_of_speech_to_noise(kind: str, snr_db: float) -> None:
    speech, rng = half_silent(), np.random.default_rng(1)
    voices = [pcm(speech_like(seed, 1.5), peak=1000.0 * seed) for seed in range(1, 7)]
    noise = white_noise(len(speech), rng) if kind == "white" else babble(voices, len(speech), RATE_HZ, rng)
    mixed = add_noise(speech, noise, snr_db, RATE_HZ).astype(float)
    scale = (mixed @ speech) / (speech.astype(float) @ speech) if snr_db < 0 else 1.0  # it may have been turned down
    added = mixed - scale * speech
    tone = np.mean(np.square(scale * speech[:RATE_HZ].astype(float)))  # of the half in which somebody speaks
    assert decibels(tone / np.mean(np.square(added))) == pytest.approx(snr_db, abs=0.5)


def test_pauses_are_no_speech() -> None:
    speech = half_silent().astype(float)
    hiss = np.random.default_rng(0).normal(0, 30, len(speech))
    level = decibels(active_power(speech + hiss, RATE_HZ))
    assert level == pytest.approx(decibels(float(np.mean(np.square(speech[:RATE_HZ])))), abs=0.1)
    assert active_power(np.zeros(5000, np.int16), RATE_HZ) == 0
    assert active_power(np.ones(3, np.int16), RATE_HZ) == 1  # shorter than a frame


def test_silence_stays_silent_and_what_is_loud_is_turned_down() -> None:
    noise = white_noise(4000, np.random.default_rng(0))
    assert not add_noise(np.zeros(4000, np.int16), noise, 0, RATE_HZ).any()
    loud = np.full(4000, 32767, np.int16)
    mixed = add_noise(loud, noise, 0, RATE_HZ).astype(float)
    assert np.abs(mixed).max() == 32767
    assert mixed.std() / mixed.mean() == pytest.approx(1, abs=0.05)  # the ratio is kept: nothing was clipped


def test_babble_is_of_equally_loud_voices() -> None:
    rng = np.random.default_rng(0)
    tones = [pcm(np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ), peak) for hz, peak in ((300, 500), (900, 9000))]
    mixed = babble(tones, 2 * RATE_HZ, RATE_HZ, rng)
    assert len(mixed) == 2 * RATE_HZ
    ratio = power_between(mixed[:RATE_HZ], 250, 350) / power_between(mixed[:RATE_HZ], 850, 950)
    assert decibels(ratio) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("name", CODECS)
def test_codecs_keep_the_speech_and_lose_what_they_should(name: str) -> None:
    """Sounds with noise up to 8 kHz, no two of one length."""
    rng = np.random.default_rng(3)
    sounds = []
    for seed, samples in enumerate((16000, 24001, 9999)):
        slow = speech_like(seed, 2.0)[:samples]
        sounds.append(pcm(slow + 0.05 * np.abs(slow) * rng.standard_normal(samples)))
    found = through_codec(sounds, RATE_HZ, name, find_ffmpeg())
    again = through_codec(sounds[1:2], RATE_HZ, name, find_ffmpeg())[0]
    assert np.array_equal(found[1], again), "another's neighbourhood must not be heard"
    for before, after in zip(sounds, found, strict=True):
        assert after.dtype == np.int16
        assert len(after) == len(before)
        assert not np.array_equal(before, after)
        envelope = [
            np.abs(s[: len(s) // 160 * 160].astype(float)).reshape(-1, 160).mean(axis=1) for s in (before, after)
        ]
        assert np.corrcoef(*envelope)[0, 1] > 0.9
        lost = decibels(power_between(before, 4600, 7900) / max(power_between(after, 4600, 7900), 1e-9))
        kept = decibels(power_between(before, 300, 3400) / power_between(after, 300, 3400))
        assert abs(kept) < 3
        if name in ("amr_12k2", "g711"):
            assert lost > 45  # what is left is the rounding to 16 bits
        else:
            assert lost < 15


def test_a_codec_at_another_sample_rate() -> None:
    sound = pcm(speech_like(1, 1.0, 11025))
    for name in CODECS:
        for part in (sound, sound[:600]):  # a second and half a tenth of one
            assert len(through_codec([part], 11025, name, find_ffmpeg())[0]) == len(part)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_ffmpeg_that_cannot_is_named(tmp_path: Path) -> None:
    poor = script(tmp_path / "poor", "echo ' A....D libmp3lame  MP3'; echo ' A....D pcm_mulaw  G.711'")
    check_encoders(["mp3_32k", "g711"], poor)
    with pytest.raises(
        ParamsError, match=r"encoders of opus_16k, amr_12k2, received .*poor.*libopus, libopencore_amrnb"
    ):
        check_encoders(list(CODECS), poor)
    broken = script(tmp_path / "broken", "echo no space left >&2; exit 1")
    with pytest.raises(PipelineError, match=r"write 1 \.amr files .*exit status 1: no space left"):
        through_codec([half_silent()], RATE_HZ, "amr_12k2", broken)
    with pytest.raises(PipelineError, match="files are missing"):
        through_codec([half_silent()], RATE_HZ, "g711", script(tmp_path / "idle", "exit 0"))
    with pytest.raises(ParamsError, match="does not run"):
        check_encoders(["g711"], str(tmp_path))


def clips(languages: int, each: int, length: int = 5 * RATE_HZ, groups: int = 4) -> list[Clip]:
    return [
        Clip(f"l{language}-{k}", f"l{language}-g{k % groups}", f"l{language}", Path("000.h5"), k, length, RATE_HZ)
        for language in range(languages)
        for k in range(each)
    ]


def test_pieces_lie_inside_each_other_and_inside_the_clip() -> None:
    starts = set()
    for clip in clips(2, 50, length=5 * RATE_HZ + 7):
        parts = [cut(clip, seconds, seed=1) for seconds in (0.5, 1, 3, 5)]
        assert [part.stop - part.start for part in parts] == [8000, 16000, 48000, 80000]
        for inner, outer in itertools.pairwise(parts):
            assert outer.start <= inner.start + 1  # each is rounded for itself
            assert inner.stop <= outer.stop + 1
        assert parts[-1].start >= 0
        assert parts[-1].stop <= clip.length
        assert cut(clip, 60, seed=1) == slice(0, clip.length)
        assert cut(clip, 1, seed=1) == parts[1]
        starts.add(parts[0].start)
    assert len(starts) > 90, "the place is each clip's own"
    assert cut(clip, 1, seed=2) != parts[1]


def test_as_many_clips_of_each_language_as_can_be() -> None:
    many = clips(3, 20)
    assert choose(many, 0, seed=1) == many
    chosen = choose(many, 10, seed=1)
    assert sorted(sum(clip.language == f"l{i}" for clip in chosen) for i in range(3)) == [3, 3, 4]
    assert [clip for clip in many if clip in chosen] == chosen
    assert choose(many[::-1], 10, seed=1) == chosen[::-1]
    assert choose(many, 10, seed=2) != chosen
    few = many[:2] + many[20:]  # two of l0 only: the others take its places
    assert sorted(sum(c.language == f"l{i}" for c in choose(few, 12, seed=1)) for i in range(3)) == [2, 5, 5]
    longer = choose([*many, *clips(4, 20)[60:]], 10, seed=1)  # a language more takes places, changes no choice
    assert set(longer) & set(many) <= set(chosen)


def test_others_babble() -> None:
    pool = clips(4, 6)
    for clip, voices in zip(pool, choose_voices(pool, seed=1), strict=True):
        assert len(set(voices)) == VOICES
        assert all(voice.language != clip.language and voice.group != clip.group for voice in voices)
    assert choose_voices(pool, seed=1) == choose_voices(pool, seed=1) != choose_voices(pool, seed=2)
    assert not any(choose_voices(clips(1, 6), seed=1)), "nobody speaks another language"


def test_scores_stand_beside_those_of_the_same_clips() -> None:
    pool = clips(2, 4)
    params = RobustnessParams(seconds=(3, 9), codecs=(), snr_db=(), max_clips=0, seed=1)
    conditions = conditions_of(params, has_babble=True)
    right = np.array([[1, 1, 1, 0, 1, 1, 0, 0], [np.nan] * 4 + [1, 0, 0, 0], [np.nan] * 8])
    undamaged, short = score_conditions(right, conditions, pool, 100, 1)
    assert (undamaged.accuracy, undamaged.n_clips, undamaged.left_out) == (5 / 8, 8, 0)
    assert (short.accuracy, short.undamaged, short.n_clips, short.n_groups, short.left_out) == (0.25, 0.5, 4, 4, 4)
    assert short.low <= short.accuracy <= short.high
    assert str(short.condition) == "3 s"


def test_windows_of_one_clip_are_pooled() -> None:
    """Two windows of clip 1 disagree, the surer one wins; clip 0 was not put through condition 1."""
    right = np.full((2, 2), np.nan)
    damaged = Damaged(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    robustness.mark(right, damaged, probabilities, labels=np.array([0, 1]))
    assert np.array_equal(right, np.array([[1, 0], [np.nan, 1]]), equal_nan=True)


def read_table(project: Project) -> dict[str, dict[str, str]]:
    with (project.folder / "metrics/robustness/table.csv").open(encoding="utf-8", newline="") as handle:
        return {row["condition"]: row for row in csv.DictReader(handle)}


def test_a_project_from_recordings_to_curves(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(groups=8, seconds=0.9)
    halves = {"resize": SMALL["resize"] | {"window_seconds": 0.5, "stride_seconds": 0.5}}
    project.set(**SMALL | halves, execution={"workers": 2})
    project.stage(*DATA, "logmel", "resize")
    with_untrained_model(project.folder)
    output = project.stage("robustness", "evaluate")
    assert "1.5 s: none of the clips is so long" in output
    table = read_table(project)
    assert list(table) == [
        "undamaged", "0.25 s", "0.9 s", "g711", "white noise 10 dB", "white noise 0 dB", "babble 10 dB", "babble 0 dB",
    ]  # fmt: skip
    told = json.loads((project.folder / "metrics/robustness/metrics.json").read_text())
    assert told["white_noise"]["0"] == float(table["white noise 0 dB"]["accuracy"])
    evaluated = json.loads((project.folder / "metrics/evaluate/metrics.json").read_text())
    assert {key: told[key] for key in ("n_clips", "n_groups", "split")} == {
        key: evaluated[key] for key in ("n_clips", "n_groups", "split")
    }
    # clips of two windows, none longer than the seconds asked for: nothing to cut, so these are what evaluate scored
    for name in ("accuracy", "accuracy_low", "accuracy_high"):
        assert float(table["undamaged"][name]) == float(table["0.9 s"][name]) == evaluated[name]
    picture = matplotlib.image.imread(project.folder / "metrics/robustness/robustness.png")
    assert min(picture.shape[:2]) > 250

    first = project.bytes_of("metrics/robustness")
    assert len(first) == 3
    project.set(execution={"workers": 1})
    project.stage("robustness")
    assert project.bytes_of("metrics/robustness") == first, "same model, same bytes, with any number of workers"

    monkeypatch.chdir(project.folder)
    params = load_params()
    clips = choose(find_clips(Path("data/resampled"), read_manifest()), 3, 1)
    whole, quarter = Condition(UNDAMAGED, ""), Condition(SECONDS, "0.25")
    conditions = (whole, quarter, Condition(SECONDS, "0.9"))
    images = images_of(Task(0, tuple(clips), ((), (), ()), conditions, 1, params.logmel, params.resize, ""))
    assert np.bincount(images.condition).tolist() == [6, 3, 6], "as much sound, two windows, as the longest row has"

    project.set(robustness={"seconds": [], "codecs": [], "snr_db": [], "max_clips": 3})
    robustness.run(load_params())
    (only,) = read_table(project).values()
    assert (only["condition"], only["n_clips"]) == ("undamaged", "3")

    rows = read_manifest()
    write_manifest([row if row.language == "l0" else row._replace(language="xx") for row in rows])
    with pytest.raises(SplitError, match=r"the model lacks: xx"):
        robustness.run(load_params())
    settings = json.loads(Path("models/calibrated/model.json").read_text())
    settings["train"]["unknown_languages"] = ["xx"]
    Path("models/calibrated/model.json").write_text(json.dumps(settings))
    robustness.run(load_params())  # they were kept out of training, so they are not asked about

    no_test = [row._replace(split="train") for row in read_manifest()]
    write_manifest(no_test)
    with pytest.raises(SplitError, match=r"expected test clips, found none.*manifest\.test_fraction"):
        robustness.run(load_params())  # it needs no ffmpeg for this


def test_no_ffmpeg_is_told_before_anything_is_read(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    project.set(decode={"ffmpeg": "/nowhere/ffmpeg"})
    monkeypatch.chdir(project.folder)
    with pytest.raises(ParamsError, match=r"decode\.ffmpeg: expected the path of an ffmpeg binary, received '/nowhere"):
        robustness.run(load_params())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codecs": ["amr"]}, r"robustness\.codecs\.0: .*'amr_12k2'.*received 'amr'"),
        ({"seconds": [3, 3.0]}, "seconds: a value stands twice"),
        ({"seconds": [0]}, "seconds: expected lengths from 0.1"),
        ({"snr_db": [100]}, "snr_db: expected ratios"),
    ],
)
def test_params_that_make_no_sense(make_project: Callable[..., Project], changes: dict[str, Any], message: str) -> None:
    project = make_project()
    project.set(robustness=changes)
    with pytest.raises(ParamsError, match=message):
        load_params(project.folder / "params.yaml")
