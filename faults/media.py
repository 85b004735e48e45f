"""Mutated media: cut, flipped, spliced, misnamed recordings in sixteen containers, through a decoding worker.

Must hold: no crash, no hang past decode.timeout_seconds, at most 512 MB a worker and ffmpeg, no file left open; each
is kept or rejected with one of the reasons in the README.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from faults.decoding import Decoder, numbers
from faults.project import decode_params
from faults.result import Result, must
from faults.sounds import make_clips

FULL = 10_000
SECONDS = 1.2
TIMEOUT_SECONDS = 20.0
MOST_MB = 512
_RESTART_AFTER = 500
_EXTREME = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x80", b"\x80\0\0\0")


def mutate(rng: np.random.Generator, names: list[str], clips: dict[str, bytes]) -> tuple[str, str, bytes]:
    """(what was done, extension, bytes) of one mutant."""
    name = str(rng.choice(names))
    content, suffix = bytearray(clips[name]), Path(name).suffix
    done = [name]
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        kind = str(rng.choice(["cut", "flip", "flip_head", "splice", "suffix", "zeros", "repeat", "insert", "extreme"]))
        done.append(kind)
        at = int(rng.integers(0, max(1, len(content))))
        if kind == "cut":
            del content[at:]
        elif kind == "flip":
            for place in rng.integers(0, max(1, len(content)), int(rng.integers(1, 200))):
                if len(content):
                    content[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == "flip_head":
            for place in rng.integers(0, min(300, max(1, len(content))), int(rng.integers(1, 8))):
                if len(content):
                    content[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == "splice":  # the head of one container, the body of another
            other = clips[str(rng.choice(names))]
            head = int(rng.integers(4, 2000))
            content = bytearray(other[:head]) + content[min(head, at) :]
        elif kind == "suffix":
            suffix = Path(str(rng.choice(names))).suffix
        elif kind == "zeros":
            length = int(rng.integers(1, 4000))
            content[at : at + length] = bytes(min(length, len(content) - at))
        elif kind == "repeat":
            content[at:at] = content[at : at + int(rng.integers(1, 4000))] * int(rng.integers(1, 20))
        elif kind == "insert":
            content[at:at] = rng.bytes(int(rng.integers(1, 3000)))
        elif kind == "extreme":  # lengths and counts stand in the heads
            at = int(rng.integers(0, max(1, min(len(content) - 4, int(rng.choice([64, 512, 100_000]))))))
            content[at : at + 4] = _EXTREME[int(rng.integers(len(_EXTREME)))]
    return "+".join(done), suffix, bytes(content)


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """Mutants `first` to `first + count - 1` of this seed."""
    result = Result()
    clips = make_clips(workdir / "clips", SECONDS)
    names = sorted(clips)
    params = decode_params(timeout_seconds=TIMEOUT_SECONDS)
    folder = workdir / "mutants"
    folder.mkdir()
    kept = 0
    with Decoder(params) as decode:
        for number in numbers(first, count):
            what, suffix, content = mutate(np.random.default_rng([seed, number]), names, clips)
            path = folder / f"{number}{suffix}"
            path.write_bytes(content or b"\0")
            with result.attempt(number, what):
                record = decode(path)
                kept += "seconds_kept" in record
                result.most("worker_mb", round(record["peak_mb"][0]))
                result.most("ffmpeg_mb", round(record["peak_mb"][1]))
                result.most("slowest_seconds", round(record["took"], 1))
                must(max(record["peak_mb"]) <= MOST_MB, f"{record['peak_mb']} MB")
                must(record["took"] <= TIMEOUT_SECONDS + 2, f"took {record['took']:.1f} s")
                must(record["files"] < 20, f"{record['files']} files are open")
            path.unlink()
            if number % _RESTART_AFTER == 0:
                decode.restart()
    result.facts["kept"] = kept
    shutil.rmtree(folder)
    return result
