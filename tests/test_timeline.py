"""Speech found between silence, noise and music; languages over time; what predict writes of them."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from app import Recognition, Recognizer, Segment, formats
from app.explain import draw, explain
from app.microphone import Listener
from app.predict import main
from app.sound import SpooledSamples
from app.speech import seconds_within, speech_stretches, stretches_of
from app.timeline import WINDOW, Step, segments_of, smooth, steps_of
from faults.small_model import SMALL, exported_model
from stages.pipeline.errors import ParamsError
from stages.pipeline.params import load_params
from stages.resample import resample

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data/demo"))

from demo_corpus import effects, render, settings  # noqa: E402

RATE = 16000


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Six seconds of a synthesised voice: (n,) int16 at 16 kHz."""
    corpus = settings.load_params(ROOT / "data/demo/params.yaml").model_copy(update={"clip_seconds": 6.0})
    clip = render.sound("es", "test", 0, corpus)
    samples: np.ndarray = resample(clip, effects.OUT_RATE_HZ, load_params(ROOT / "params.yaml").resample)
    return samples


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """Windows of 5 s, three languages."""
    five = SMALL["resize"] | {"window_seconds": 5, "stride_seconds": 5}
    return Recognizer(exported_model(tmp_path_factory.mktemp("model"), resize=five))


def music(seconds: float) -> np.ndarray:
    """Chords of plucked strings."""
    rng, time = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    out = np.zeros(len(time))
    for begin in np.arange(0, seconds, 0.5):
        since = time - begin
        root = 220 * 2 ** (rng.integers(0, 12) / 12)
        for third in (1, 1.26, 1.5):
            for partial in range(1, 6):
                out += (since >= 0) * np.exp(-4 * since.clip(0)) * np.sin(2 * np.pi * root * third * partial * since)
    samples: np.ndarray = (8000 * out / np.abs(out).max()).astype(np.int16)
    return samples


def test_speech_is_told_from_silence_noise_and_music(spoken: np.ndarray) -> None:
    silence = np.zeros(2 * RATE, np.int16)
    hiss = (300 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.int16)
    tape = np.concatenate([silence, spoken, hiss, music(3), spoken])
    stretches = speech_stretches(tape, RATE)
    first, second = 2.0 + len(spoken) / RATE, 7.0 + len(spoken) / RATE
    assert seconds_within(stretches, 2.0, first) > 0.8 * len(spoken) / RATE
    assert seconds_within(stretches, second, second + len(spoken) / RATE) > 0.8 * len(spoken) / RATE
    assert seconds_within(stretches, 0, 1.8) == 0
    assert seconds_within(stretches, first + 0.4, second - 0.2) == 0
    at_8_khz = speech_stretches(tape[::2], RATE // 2)
    assert sum(e - s for s, e in at_8_khz) == pytest.approx(sum(e - s for s, e in stretches), rel=0.1)


def test_short_pauses_belong_to_speech_and_clicks_do_not() -> None:
    frames = np.zeros(200)
    frames[20:40] = 0.9
    frames[44:60] = 0.9  # after 0.13 s
    frames[100:103] = 0.9  # 0.1 s of something
    ((start, end),) = stretches_of(frames, 6.4)
    assert start == pytest.approx(20 * 0.032 - 0.1)
    assert end == pytest.approx(60 * 0.032 + 0.1)
    assert stretches_of(np.zeros(0), 0.0) == []


def test_nobody_speaks(recognizer: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "music.wav", music(6), RATE)
    found = recognizer.recognize(tmp_path / "music.wav")
    assert (found.language, found.probability, found.ranking, found.segments) == ("no_speech", 0.0, (), ())
    everything = Recognizer(folder_of(recognizer), all_sound=True).recognize(tmp_path / "music.wav")
    assert everything.language in recognizer.languages
    assert main(["--model", str(folder_of(recognizer)), str(tmp_path / "music.wav")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'music.wav'}  no_speech\n"
    with pytest.raises(Exception, match="nobody speaks"):
        explain(recognizer, tmp_path / "music.wav")


def folder_of(recognizer: Recognizer) -> Path:
    folder: Path = recognizer.folder
    return folder


def test_windows_do_not_reach_across_a_pause() -> None:
    steps = steps_of([(0.0, 2.0), (2.5, 4.0), (10.0, 22.0)])
    assert {step.window for step in steps if step.start < 5} == {(0.0, 4.0)}
    later = [step for step in steps if step.start >= 10]
    assert all(step.window[0] >= 10 and step.window[1] <= 22 for step in later)
    assert all(step.window[1] - step.window[0] == pytest.approx(WINDOW) for step in later)
    assert all(step.window[0] <= step.start and step.end <= step.window[1] for step in steps)
    assert sum(step.end - step.start for step in steps) == pytest.approx(15.5)


def answers(languages: list[int], sure: float = 0.9) -> tuple[list[Step], np.ndarray]:
    steps = [Step(float(k), k + 1.0, (max(0.0, k - 2.0), k + 3.0)) for k in range(len(languages))]
    probabilities = np.full((len(languages), 3), (1 - sure) / 2)
    probabilities[np.arange(len(languages)), languages] = sure
    return steps, probabilities


def test_one_odd_window_changes_no_language_and_many_do() -> None:
    steps, probabilities = answers([0] * 10 + [1] + [0] * 10)
    assert set(smooth(steps, probabilities)) == {0}
    steps, probabilities = answers([0] * 20 + [1] * 20)
    assert smooth(steps, probabilities).tolist() == [0] * 20 + [1] * 20
    segments = segments_of(steps, probabilities, ("a", "b", "c"), None, "unknown")
    assert [(one.start, one.end, one.language) for one in segments] == [(0, 20, "a"), (20, 40, "b")]
    unsure = segments_of(steps, probabilities, ("a", "b", "c"), 0.95, "unknown")
    assert {one.language for one in unsure} == {"unknown"}
    assert segments_of([], np.zeros((0, 3)), ("a", "b", "c"), None, "unknown") == ()


def test_a_tape_becomes_segments_without_its_silences(
    recognizer: Recognizer, spoken: np.ndarray, tmp_path: Path
) -> None:
    tape = np.concatenate([spoken, np.zeros(3 * RATE, np.int16), spoken])
    soundfile.write(tmp_path / "tape.flac", tape, RATE)
    found = recognizer.recognize(tmp_path / "tape.flac")
    gap = (len(spoken) / RATE, len(spoken) / RATE + 3)
    assert found.segments
    assert all(one.end <= gap[0] + 0.2 or one.start >= gap[1] - 0.2 for one in found.segments)
    assert found.speech_seconds == pytest.approx(sum(one.end - one.start for one in found.segments), rel=0.05)
    assert all(one.language in recognizer.languages and 0 < one.probability <= 1 for one in found.segments)
    two = recognizer.languages[1:]
    closed = recognizer.recognize(tmp_path / "tape.flac", two)
    assert {name for name, _ in closed.ranking} == set(two) >= {one.language for one in closed.segments}
    assert sum(p for _, p in closed.ranking) == pytest.approx(1)
    open_set = dict(found.ranking)
    assert dict(closed.ranking)[two[0]] >= open_set[two[0]]
    with pytest.raises(ParamsError, match="received xx; it knows"):
        recognizer.recognize(tmp_path / "tape.flac", ["xx"])


def test_long_recordings_wait_in_a_file(spoken: np.ndarray) -> None:
    spooled = SpooledSamples()
    for block in np.array_split(spoken, 7):
        spooled.append(block)
    assert len(spooled) == len(spoken)
    for part in (slice(0, 10), slice(1000, 5000), slice(len(spoken) - 3, len(spoken) + 9), slice(7, 3), slice(None)):
        assert np.array_equal(spooled[part], spoken[part])
    assert speech_stretches(spooled, RATE) == speech_stretches(spoken, RATE)


TAPE = Recognition(
    (("es", 0.7), ("fr", 0.3)), 2, 30.0, None, 20.0,
    (Segment(0.5, 12.25, "es", 0.91), Segment(3661.0, 3665.5, "=x <&>", 0.5)),
)  # fmt: skip


def test_formats() -> None:
    assert formats.text("a b.wav", TAPE, None, timeline=True).splitlines() == [
        "a b.wav  es 0.700  fr 0.300", "  0:00:00.5 - 0:00:12.2  es 0.910", "  1:01:01.0 - 1:01:05.5  =x <&> 0.500",
    ]  # fmt: skip
    rows = list(csv.reader(io.StringIO(formats.CSV_HEAD + formats.csv_lines("=cmd.wav", TAPE))))
    assert rows[0] == ["path", "start", "end", "language", "probability"]
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row)
    lines = [
        line.split()
        for line in formats.rttm(
            "a b.wav", Recognition(TAPE.ranking, 2, 30.0, None, 20.0, TAPE.segments[:1])
        ).splitlines()
    ]
    assert lines == [["SPEAKER", "a_b.wav", "1", "0.50", "11.75", "<NA>", "<NA>", "es", "0.9100", "<NA>"]]
    cues = formats.webvtt("a.wav", TAPE).split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[2] == "00:00:00.500 --> 00:00:12.250\nes 0.91"
    assert cues[3] == "01:01:01.000 --> 01:01:05.500\n=x &lt;&amp;&gt; 0.50\n"
    assert json.loads(formats.json_line("a.wav", TAPE, 1))["segments"][0] == {
        "start": 0.5, "end": 12.25, "language": "es", "probability": 0.91,
    }  # fmt: skip


def test_standard_input(recognizer: Recognizer, spoken: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", spoken, RATE)
    command = [sys.executable, "-m", "app.predict", "--model", str(folder_of(recognizer)), "--format"]
    done = subprocess.run(
        [*command, "json", "-"], input=(tmp_path / "a.flac").read_bytes(), capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["path"], found["language"]) == ("stdin", recognizer.recognize(tmp_path / "a.flac").language)
    empty = subprocess.run([*command, "text", "-"], input=b"", capture_output=True, check=False)
    assert (empty.returncode, empty.stdout) == (1, b"")
    assert re.match(rb"stdin: empty_file", empty.stderr)


def test_several_recordings_make_no_webvtt(recognizer: Recognizer, spoken: np.ndarray, tmp_path: Path) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.flac", spoken, RATE)
    assert main(["--model", str(folder_of(recognizer)), "--format", "webvtt", str(tmp_path)]) == 2


def test_live_sound_is_answered_once_a_second(recognizer: Recognizer, spoken: np.ndarray) -> None:
    listener = Listener(recognizer, 32000)
    live = np.repeat(spoken, 2).astype(np.float32) / 32768  # at 32 kHz
    found = [listener.feed(live[first : first + 1024]) for first in range(0, len(live), 1024)]
    heard = [one for one in found if one is not None]
    assert len(heard) in {len(spoken) // RATE - 1, len(spoken) // RATE}
    assert heard[-1].language in recognizer.languages
    assert max(one.seconds for one in heard) <= 5.1
    assert Listener(recognizer, RATE).feed(np.zeros(2 * RATE, np.float32)).language == "no_speech"  # type: ignore[union-attr]


def test_an_explanation_shows_what_counted(recognizer: Recognizer, spoken: np.ndarray, tmp_path: Path) -> None:
    quiet_half = np.concatenate([spoken[: 2 * RATE], np.zeros(2 * RATE, np.int16)])
    soundfile.write(tmp_path / "a.wav", quiet_half, RATE)
    found = explain(recognizer, tmp_path / "a.wav")
    assert found.spectrogram.shape == found.activation.shape
    assert 0 <= found.activation.min() <= found.activation.max() <= 1 + 1e-9
    columns = found.activation.shape[1]
    assert found.activation[:, int(0.6 * columns) :].max() < 0.05  # nothing is there to remove
    assert found.activation[:, : columns // 2].max() > 0.9
    assert found.probabilities.shape == (len(found.times), len(recognizer.languages))
    draw(found, tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png").std() > 0.05
    assert (
        main(["--model", str(folder_of(recognizer)), "--explain", str(tmp_path / "b.png"), str(tmp_path / "a.wav")])
        == 0
    )
    assert (tmp_path / "b.png").stat().st_size > 10_000
