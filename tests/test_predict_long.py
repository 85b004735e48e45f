"""Recordings and streams without end: what they cost in memory, live answers, progress."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speech_like

from app import Recognition, Recognizer
from app.microphone import answers, raw_blocks
from faults.small_model import SMALL, exported_model
from stages.pipeline.errors import RejectedClip

RATE = 16000
# Peak memory of a process that recognises the files named, in MB; of the process itself, not of whoever started it.
MEASURE = """
import re, sys
from pathlib import Path
from app.predict import main
status = main(["--all-sound", "--format", "rttm", "--model", *sys.argv[1:]])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with windows of 5 s."""
    five = SMALL["resize"] | {"window_seconds": 5, "stride_seconds": 5}
    return exported_model(tmp_path_factory.mktemp("model"), resize=five)


def write_tape(path: Path, seconds: int) -> Path:
    block = speech_like(1, 30.0)
    with soundfile.SoundFile(path, "w", RATE, 1) as tape:
        for _ in range(seconds // 30):
            tape.write(block)
    return path


def megabytes(folder: Path, tape: Path) -> tuple[float, list[str]]:
    """Peak memory, and the lines written."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(tape)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stderr) / 1024, done.stdout.splitlines()


@pytest.mark.parametrize("minutes", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_a_long_recording_needs_little_more_memory_than_a_short_one(folder: Path, tmp_path: Path, minutes: int) -> None:
    short, _ = megabytes(folder, write_tape(tmp_path / "short.flac", 30))
    long, lines = megabytes(folder, write_tape(tmp_path / "long tape.flac", 60 * minutes))
    # 10 minutes are held before a file takes over, twice while they go there; all of it as floats would be 77 MB
    # for each 20 minutes, and images of windows of it 44 MB more
    assert long < short + 60
    assert lines[0].startswith(f"SPEAKER {tmp_path}/long_tape.flac 1 0.00 ")
    assert sum(float(line.split()[4]) for line in lines) == pytest.approx(60 * minutes, abs=1)


@pytest.mark.parametrize("size", [2, 1001, 100_000])
def test_raw_samples_come_through_a_pipe_in_any_pieces(size: int) -> None:
    samples = speech_like(1, 1.0).astype(np.float32)
    raw = np.rint(samples * 32767).astype("<i2")
    inside, outside = os.pipe()

    def write() -> None:  # slowly, and stops within a sample
        data = raw.tobytes() + b"x"
        while data:
            data = data[os.write(outside, data[:size]) :]
        os.close(outside)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(inside, "rb", buffering=0) as source:
        heard = np.concatenate(list(raw_blocks(source, RATE)))  # type: ignore[arg-type]
    writer.join()
    assert np.array_equal(np.rint(heard * 32768), raw)


def test_an_answer_a_second_and_one_at_the_end(folder: Path) -> None:
    recognizer = Recognizer(folder, all_sound=True)
    sound = speech_like(3, 12.3)
    blocks = (sound[first : first + 700] for first in range(0, len(sound), 700))
    told = list(answers(recognizer, blocks, RATE))
    assert [round(at) for at, _ in told] == [*range(1, 13), 12]
    assert told[-1][0] == pytest.approx(12.3)
    assert max(found.seconds for _, found in told) <= 5.01
    last = told[-1][1].segments
    assert last[0].start == pytest.approx(12.3 - 5, abs=0.05)
    assert last[-1].end == pytest.approx(12.3)
    whole = recognizer.recognize_samples(np.rint(sound[-5 * RATE :] * 32768).astype(np.int16), 5.0)
    assert told[-1][1].language == whole.language
    assert list(answers(recognizer, [], RATE)) == []
    broken = np.full(RATE, np.nan, np.float32)
    ((_, after),) = answers(Recognizer(folder), [broken], RATE)
    assert after.language == "no_speech"


def test_live_sound_on_standard_input(folder: Path) -> None:
    raw = np.rint(speech_like(3, 2.5, 8000) * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "app.predict", "--all-sound", "--model", str(folder), "--raw", "8000"]
    done = subprocess.run([*command, "--json"], input=raw, capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["at"] for line in lines] == [1.25, 2.25, 2.5]
    assert all(line["path"] == "stdin" and len(line["ranking"]) > 1 for line in lines)
    done = subprocess.run([*command, "--top", "1"], input=raw, capture_output=True, check=True)
    assert re.fullmatch(rb"(0:00:0[12]\.\d  [a-z]+ 0\.\d{3}\n){3}", done.stdout)
    none = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert (none.returncode, none.stdout, none.stderr) == (1, b"", b"stdin: empty_file: no sound came\n")
    for wrong in (["a.wav"], ["--microphone"], ["--format", "csv"], ["--timeline"]):
        assert subprocess.run([*command, *wrong], input=b"", capture_output=True, check=False).returncode == 2


def test_a_long_recording_tells_how_far_it_is(folder: Path, tmp_path: Path) -> None:
    tape = write_tape(tmp_path / "tape.wav", 90)
    shares: list[float] = []
    found = Recognizer(folder, all_sound=True).recognize(tape, progress=shares.append)
    assert len(shares) > 4
    assert shares == sorted(shares)
    assert shares[-1] == 1
    keep = Recognizer(folder, all_sound=True)
    keep._pool = None  # one thread, at once: the same answer
    assert keep.recognize(tape) == found


class Watched(Recognizer):
    """Keeps what it is told of the work on the tape."""

    shares: list[float]

    def attempt(
        self,
        path: str | Path,
        languages: Sequence[str] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recognition | RejectedClip:
        def told(share: float) -> None:
            if "tape" in str(path):
                self.shares.append(share)
            if progress:
                progress(share)

        return super().attempt(path, languages, told)


def test_who_leaves_ends_the_work_on_a_long_recording(folder: Path, tmp_path: Path) -> None:
    """Ctrl-C once waited for the end of an hour."""
    short, tape = write_tape(tmp_path / "short.flac", 30), write_tape(tmp_path / "tape.flac", 1200)
    recognizer = Watched(folder, all_sound=True)
    recognizer.shares = []
    found = recognizer.recognize_all([short, tape])
    assert isinstance(next(found), Recognition)
    found.close()  # type: ignore[attr-defined]
    assert 1.0 not in recognizer.shares


@pytest.mark.parametrize(("files", "seconds"), [(1, 180), (20, 30)])
def test_progress_is_for_who_watches(folder: Path, tmp_path: Path, files: int, seconds: int) -> None:
    tape = write_tape(tmp_path / "0.wav", seconds)
    for number in range(1, files):
        (tmp_path / f"{number}.wav").hardlink_to(tape)
    watched, terminal = pty.openpty()
    command = [sys.executable, "-m", "app.predict", "--all-sound", "--model", str(folder), str(tmp_path)]
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody is left
        while data := os.read(watched, 4096):
            seen += data
    os.close(watched)
    assert b"recognising" in seen
    unwatched = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert unwatched.stderr == b""
    assert unwatched.stdout == done.stdout  # and none of it went where the bar is
    assert len(done.stdout.splitlines()) == files
