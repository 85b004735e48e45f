"""What finding speech and telling languages over time are worth, on clips of the test split.

    python benchmarks/timeline.py --clips 60 --tapes 8

- clips      accuracy with silence and music skipped and without, the same clips; how much of them is taken for speech,
             as they are and through a telephone's band (8 kHz sampling), under white noise at 10 and 0 dB
- not speech how much of silence, noise and music is taken for speech (--music: recordings of your own)
- tapes      six clips of different languages each, joined directly or with silence, noise or music between them. Of the
             time in which both the truth and the answer name a language: how much is named rightly; how much of the
             clips is left out; how much of the gaps is named. Edges: seconds from where a clip begins or ends to the
             nearest edge of a segment in its language.

Synthesised voices of one engine, no real conversation: a change of speaker inside a language, overlapping speech and
languages mixed within a sentence are not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import Recognizer
from app.sound import read_samples
from app.speech import seconds_within, speech_stretches
from stages.damage.noise import add_noise, white_noise
from stages.pipeline.manifest_table import read_manifest

GRID = 0.05  # seconds
GAPS = ("none", "silence", "noise", "music")
PER_TAPE = 6


def chords(seconds: float, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) int16: plucked strings, three at a time."""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    out = np.zeros(len(time))
    for begin in np.arange(0, seconds, 0.5):
        since = np.maximum(time - begin, 0)
        root = 220 * 2 ** (rng.integers(0, 12) / 12)
        for third in (1, 1.26, 1.5):
            for partial in range(1, 6):
                out += (time >= begin) * np.exp(-4 * since) * np.sin(2 * np.pi * root * third * partial * since)
    scaled: np.ndarray = (8000 * out / np.abs(out).max()).astype(np.int16)
    return scaled


def telephone(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """(n,) int16 -> the same without what lies above 3.4 and below 0.3 kHz."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    hertz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    filtered: np.ndarray = np.clip(np.fft.irfft(spectrum, len(samples)), -32768, 32767).astype(np.int16)
    return filtered


def of_clips(recognizer: Recognizer, plain: Recognizer, clips: Sequence[tuple[np.ndarray, str]]) -> dict[str, Any]:
    rate_hz = recognizer.model.sound.rate_hz
    rng = np.random.default_rng(0)
    ways = {
        "as they are": lambda x: x,
        "telephone band": lambda x: telephone(x, rate_hz),
        "white noise, 10 dB": lambda x: add_noise(x, white_noise(len(x), rng), 10, rate_hz),
        "white noise, 0 dB": lambda x: add_noise(x, white_noise(len(x), rng), 0, rate_hz),
    }
    rows = {}
    for name, damage in ways.items():
        right, right_plain, heard, whole, none, same = 0, 0, 0.0, 0.0, 0, 0
        for samples, language in clips:
            damaged = damage(samples)
            seconds = len(damaged) / rate_hz
            found = recognizer.recognize_samples(damaged, seconds)
            everything = plain.recognize_samples(damaged, seconds)
            right += found.language == language
            right_plain += everything.language == language
            same += found.ranking == everything.ranking
            none += not found.ranking
            heard, whole = heard + found.speech_seconds, whole + seconds
        count = len(clips)
        rows[name] = {
            "clips": count, "right": right, "right_taking_all_sound": right_plain, "same_answer": same,
            "no_speech": none, "share_taken_for_speech": round(heard / whole, 3),
        }  # fmt: skip
    return rows


def of_other_sounds(rate_hz: int, music: Sequence[np.ndarray]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    sounds = {
        "silence": [np.zeros(30 * rate_hz, np.int16)],
        "white noise": [(3000 * rng.standard_normal(30 * rate_hz)).astype(np.int16)],
        "chords": [chords(30, rate_hz, rng)],
        **({"recorded music": list(music)} if music else {}),
    }
    rows = {}
    for name, pieces in sounds.items():
        whole = sum(len(one) for one in pieces) / rate_hz
        heard = sum(seconds_within(speech_stretches(one, rate_hz), 0, len(one) / rate_hz) for one in pieces)
        rows[name] = {"seconds": round(whole, 1), "share_taken_for_speech": round(heard / whole, 3)}
    return rows


Spoken = tuple[float, float, str]  # seconds from and to, language


def tape(
    clips: Sequence[tuple[np.ndarray, str]], gap: str, rate_hz: int, music: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Spoken]]:  # fmt: skip
    parts, truth, at = [], [], 0
    for samples, language in clips:
        truth.append((at / rate_hz, (at + len(samples)) / rate_hz, language))
        seconds = float(rng.uniform(2, 5))
        between = {
            "none": lambda: np.zeros(0, np.int16),
            "silence": lambda s=seconds: np.zeros(int(s * rate_hz), np.int16),
            "noise": lambda s=seconds: (1000 * rng.standard_normal(int(s * rate_hz))).astype(np.int16),
            "music": lambda s=seconds: (
                music[rng.integers(len(music))][: int(s * rate_hz)] if music else chords(s, rate_hz, rng)
            ),
        }[gap]()
        parts += [samples, between]
        at += len(samples) + len(between)
    return np.concatenate(parts), truth


def compare(truth: list[Spoken], found: Sequence[Any], seconds: float) -> tuple[np.ndarray, list[float]]:
    """(right, both, missed, spoken, named, gaps) in steps of GRID; seconds from each edge to its nearest."""
    grid = np.arange(0, seconds, GRID)
    said, heard = np.full(len(grid), "", object), np.full(len(grid), "", object)
    for start, end, language in truth:
        said[(grid >= start) & (grid < end)] = language
    for one in found:
        heard[(grid >= one.start) & (grid < one.end)] = one.language
    spoken, named = said != "", heard != ""
    counts = [
        ((said == heard) & spoken).sum(), (spoken & named).sum(), (spoken & ~named).sum(), spoken.sum(),
        (~spoken & named).sum(), (~spoken).sum(),
    ]  # fmt: skip
    edges = []
    for start, end, language in truth:
        own = [one for one in found if one.language == language and one.start < end and one.end > start]
        if own:
            edges += [abs(min(one.start for one in own) - start), abs(max(one.end for one in own) - end)]
    return np.array(counts), edges


def of_tapes(
    recognizer: Recognizer, clips: Sequence[tuple[np.ndarray, str]], tapes: int, music: Sequence[np.ndarray]
) -> dict[str, Any]:
    rate_hz = recognizer.model.sound.rate_hz
    rows = {}
    for gap in GAPS:
        rng = np.random.default_rng(2)
        total, edges, segments = np.zeros(6), [], 0
        for _ in range(tapes):
            order = rng.permutation(len(clips))
            some: list[tuple[np.ndarray, str]] = []
            for k in order:  # neighbours differ in language
                if len(some) < PER_TAPE and (not some or some[-1][1] != clips[k][1]):
                    some.append(clips[k])
            sound, truth = tape(some, gap, rate_hz, music, rng)
            found = recognizer.recognize_samples(sound, len(sound) / rate_hz)
            counts, near = compare(truth, found.segments, len(sound) / rate_hz)
            total, edges, segments = total + counts, edges + near, segments + len(found.segments)
        rows[gap] = {
            "tapes": tapes, "clips": tapes * PER_TAPE, "segments": segments,
            "rightly_named": round(total[0] / total[1], 3), "left_out": round(total[2] / total[3], 3),
            "gaps_named": round(total[4] / total[5], 3) if total[5] else None,
            "clips_found": len(edges) // 2,
            "edge_median_seconds": round(float(np.median(edges)), 2),
            "edge_90_percent_seconds": round(float(np.quantile(edges, 0.9)), 2),
        }  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--tapes", type=int, default=8, help="for each kind of gap")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dataset", type=Path, default=Path("data/demo/clips"))
    parser.add_argument("--music", type=Path, nargs="*", default=[], help="recordings of music without singing")
    options = parser.parse_args()
    recognizer = Recognizer(options.model)
    plain = Recognizer(options.model, all_sound=True)
    settings = recognizer.model.sound

    def read(path: Path) -> np.ndarray:
        return np.asarray(read_samples(path, settings)[0][:])

    rows = [row for row in read_manifest(Path("data/manifest.csv")) if row.split == "test"]
    chosen = np.random.default_rng(0).permutation(len(rows))[: options.clips]
    clips = [(read(options.dataset / rows[k].path), rows[k].language) for k in chosen]
    music = [read(path)[: 30 * settings.rate_hz] for path in options.music]
    result = {
        "not_speech": of_other_sounds(settings.rate_hz, music),
        "tapes": of_tapes(recognizer, clips, options.tapes, music),
        "clips": of_clips(recognizer, plain, clips),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
