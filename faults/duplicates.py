"""Copies of a clip planted in another split: as it is, in another container, re-encoded, softer, cut, over a telephone.

They stand among a hundred times as many distinct clips of eSpeak's, 2 to 6 s long, all of which go through the stages
as a user's corpus does. Of ten clips seven have a voice and a text of their own. The others are there to be mistaken:
one shares its voice with many others, one says another's text in a voice of another family, one has another's voice
and begins with its words.

Must hold: the manifest rejects the same bytes, decode the same samples, the audit names every other copy with its
original, and nothing else.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from faults.project import ROOT, Project
from faults.result import Result, must
from faults.sounds import run_ffmpeg

if TYPE_CHECKING:
    from demo_corpus.settings import DemoParams
    from demo_corpus.voices import VoiceDraw

FULL = 100
DISTINCT = 100  # clips for each planted one
STAGES = ("manifest", "decode", "resample", "logmel", "audit")
SPLITS = ("train", "validation", "test")
DEMO = ROOT / "data/demo"
RATE_HZ = 22050
_SECONDS = (2.0, 6.0)
_SHARED_VOICES = 8
_NAMES = ("territories", "languages", "currencies", "jobs")
# A beginning that two clips share is sound that they share: it must stay below half of the shorter one.
_LONGEST_NAME, _SECONDS_OF_NAMES = 8, (3.0, 6.0)
_SHORT_SENTENCE = 12  # letters; a number or a date that two clips share is less than half of one
_WORDS = 24  # last longer than any clip
_TEMPI_ALIKE = 0.05  # a copy that is 3 % faster is hardly ever found
# Variants that eSpeak's other synthesiser says: they are one voice but for a detail, whatever they are called.
_KLATT = {
    "Reed", "UniRobot", "adam", "announcer", "benjamin", "david", "edward", "edward2", "klatt", "klatt2", "klatt3",
    "klatt4", "klatt5", "klatt6", "mike2", "robosoft", "robosoft2", "robosoft3",
}  # fmt: skip

Draw = np.random.Generator


@dataclass(frozen=True)
class Planted:
    """What a copy is: ffmpeg's options for it, drawn at random where they are cuts, and the stage that finds it."""

    suffix: str
    options: Callable[[Draw, float], list[str]]
    stage: str = "audit"


def _plain(suffix: str, *options: str, stage: str = "audit") -> Planted:
    return Planted(suffix, lambda rng, seconds: list(options), stage)


def _filtered(suffix: str, text: Callable[[Draw, float], str], *options: str) -> Planted:
    return Planted(suffix, lambda rng, seconds: ["-af", text(rng, seconds), *options])


_MP3 = ("-c:a", "libmp3lame", "-b:a", "64k")
PLANTED = {
    "the same file": _plain(".flac", stage="manifest"),
    "WAV": _plain(".wav", stage="decode"),
    "ALAC": _plain(".m4a", "-c:a", "alac", "-sample_fmt", "s16p", stage="decode"),
    "MP3 at 32 kbit/s": _plain(".mp3", "-c:a", "libmp3lame", "-b:a", "32k"),
    "MP3 at 128 kbit/s": _plain(".mp3", "-c:a", "libmp3lame", "-b:a", "128k", "-ar", "44100", "-ac", "2"),
    "Opus at 16 kbit/s": _plain(".opus", "-c:a", "libopus", "-b:a", "16k"),
    "Opus at 32 kbit/s": _plain(".webm", "-c:a", "libopus", "-b:a", "32k"),
    "Vorbis": _plain(".ogg", "-c:a", "libvorbis", "-q:a", "2"),
    "AAC": _plain(".m4a", "-c:a", "aac", "-b:a", "48k"),
    "AMR at 12.2 kbit/s": _plain(".amr", "-c:a", "libopencore_amrnb", "-ar", "8000", "-b:a", "12.2k"),
    "mu-law": _plain(".wav", "-c:a", "pcm_mulaw", "-ar", "8000"),
    "48 kHz": _plain(".wav", "-ar", "48000"),
    "8 kHz": _plain(".wav", "-ar", "8000"),
    "20 dB softer": _plain(".wav", "-af", "volume=-20dB"),
    "its beginning cut off, MP3": _filtered(
        ".mp3", lambda rng, seconds: f"atrim=start={min(seconds - 1.8, rng.uniform(0.05, 0.4) * seconds)}", *_MP3
    ),
    "its end cut off, Opus": _filtered(
        ".ogg", lambda rng, seconds: f"atrim=end={max(1.8, rng.uniform(0.6, 0.95) * seconds)}",
        "-c:a", "libopus", "-b:a", "24k",
    ),
    "silence before it": _filtered(".mp3", lambda rng, seconds: f"adelay={rng.integers(50, 3000)}:all=1", *_MP3),
    "faded in and out": _filtered(
        ".mp3", lambda rng, seconds: f"afade=d={seconds / 4},afade=t=out:st={seconds * 0.75}:d={seconds / 4}",
        *_MP3,
    ),
    "a telephone's band": _plain(".mp3", "-af", "highpass=f=300:p=2,lowpass=f=3400:p=2", *_MP3),
    "bass and treble": _plain(".mp3", "-af", "bass=g=6,treble=g=-10", *_MP3),
}  # fmt: skip


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One corpus: number i plants one copy and adds a hundred distinct clips."""
    result = Result()
    corpus = workdir / "corpus"
    corpus.mkdir()
    try:
        if str(DEMO) not in sys.path:
            sys.path.insert(0, str(DEMO))
        plan = _plan(seed, (first + count) * DISTINCT)
        clips = _say(corpus, plan, range(first * DISTINCT, len(plan)))
    except ModuleNotFoundError as error:
        return Result(skipped=f"the clips are spoken by the demo corpus's engine, which needs {error.name}")
    planted = {number: _plant(corpus, seed, number) for number in range(first, first + count)}
    with (corpus / "corpus.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "language", "group", "split"])
        for clip in clips:
            writer.writerow([clip.name, *_language_and_split(clip)])
        for number, (copy, original) in planted.items():
            language, _, split = _language_and_split(original)
            writer.writerow([copy.name, language, f"c{number}", SPLITS[(SPLITS.index(split) + 1 + number % 2) % 3]])
    project = Project(workdir / "project", corpus)
    project.stage(*STAGES)
    found = {frozenset((line["path"], line["other_path"])): line for line in _table(project, "audit/near_duplicates")}
    rejected = {name: _table(project, f"{name}/quarantine") for name in ("manifest", "decode")}
    missed: list[str] = []
    for number, (copy, original) in planted.items():
        kind = _kind(number)
        with result.attempt(number, kind):
            pair = {copy.name, original.name}
            missed.append(kind)
            if PLANTED[kind].stage == "audit":
                must(found.pop(frozenset(pair), None), f"{original.name} and its copy pass for two clips")
            else:
                reasons = {line["path"]: line["reason"] for line in rejected[PLANTED[kind].stage]}
                must(pair & set(reasons), f"{PLANTED[kind].stage} rejected neither {original.name} nor its copy")
            missed.pop()
    for both, line in found.items():
        names = " and ".join(sorted(both))
        result.failures.append(f"false alarm: {names} (their spectra correlate by {line['correlation']})")
    result.facts = {"distinct": len(clips), "false_alarms": len(found), "missed": ", ".join(sorted(missed))}
    shutil.rmtree(project.folder)
    return result


def _table(project: Project, name: str) -> list[dict[str, str]]:
    with (project.folder / f"metrics/{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _kind(number: int) -> str:
    return list(PLANTED)[number % len(PLANTED)]


def _language_and_split(clip: Path) -> tuple[str, str, str]:
    """Language, group and split of a distinct clip."""
    language, _, digits = clip.stem.partition("-")
    return language, f"g{digits}", SPLITS[int(digits) % 3]


def _plant(corpus: Path, seed: int, number: int) -> tuple[Path, Path]:
    """A copy of one of the number's own hundred clips, and the original."""
    rng = np.random.default_rng([seed, number, 1])
    at = number * DISTINCT + int(rng.integers(DISTINCT))
    (original,) = corpus.glob(f"*-{at:07d}.flac")
    planted = PLANTED[_kind(number)]
    copy = corpus / f"copy-{number:05d}{planted.suffix}"
    if planted.stage == "manifest":
        shutil.copy(original, copy)
    else:
        options = planted.options(rng, soundfile.info(original).duration)
        run_ffmpeg("-i", f"file:{original}", *options, f"file:{copy}")
    return copy, original


@dataclass(frozen=True)
class Clip:
    """A distinct clip: what is said, by whom, and how long it lasts."""

    language: str
    voice: VoiceDraw
    text: str
    seconds: float


def _plan(seed: int, count: int) -> list[Clip]:
    """Clips 0 to count - 1. What a clip is depends on those before it, never on those after it.

    No sentence is said twice by voices of one family at one tempo: to any ear that would be the same sound.
    """
    from demo_corpus import settings, voices

    params = settings.load_params(DEMO / "params.yaml").model_copy(update={"seed": seed})
    family = {variant: variants[0] for variants in voices.FAMILIES for variant in variants} | dict.fromkeys(_KLATT, "")
    said: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    clips = []
    for at in range(count):
        # ten in a row, one of each kind, are of one language
        language, kind = params.languages[at // 10 % len(params.languages)], at % 10
        text = _text(language, at, kind, params)
        if kind in (7, 9):
            voice = voices.draw_voice(language, "train", at // DISTINCT % _SHARED_VOICES, params)
        else:
            sentences = re.split(r"[.?!:] ", re.sub(r"\d+", "0", text))
            parts = [part for part in sentences if len(part) > _SHORT_SENTENCE]
            number, alike = _SHARED_VOICES + at, True
            while alike:
                voice = voices.draw_voice(language, "train", number, params)
                tempo, keys = voice.engine_words_per_minute, [(language, part, family[voice.variant]) for part in parts]
                alike = any(abs(tempo - other) < _TEMPI_ALIKE * tempo for key in keys for other in said[key])
                number += 1_000_000  # a voice that no other clip has
            for key in keys:
                said[key].append(tempo)
        between = _SECONDS_OF_NAMES if kind in (7, 9) else _SECONDS
        seconds = float(settings.generator(seed, "seconds", at).uniform(*between))
        clips.append(Clip(language, voice, text, seconds))
    return clips


def _say(corpus: Path, plan: list[Clip], numbers: range) -> list[Path]:
    from demo_corpus import speech

    paths = []
    for at in numbers:
        clip = plan[at]
        sound = speech.say(clip.text, clip.voice, clip.seconds, at, str(corpus.parent)).samples
        paths.append(corpus / f"{clip.language}-{at:07d}.flac")
        must(len(sound) > 0.9 * _SECONDS[0] * RATE_HZ, f"{paths[-1].name}: {len(sound) / RATE_HZ:.1f} s of speech")
        soundfile.write(paths[-1], sound, RATE_HZ)
    speech.stop()
    return paths


def _text(language: str, at: int, kind: int, params: DemoParams) -> str:
    """More words than are said: a text of its own, another clip's, or names for a voice that says many clips."""
    from demo_corpus import settings, texts, words

    if kind not in (7, 9):
        return texts.compose(language, "train", f"{at - 8 if kind == 8 else at}", _WORDS, params)
    pools = words.pools(language, "train", params)
    found = [item.text for name in _NAMES for item in pools[name]]
    names = [name for name in found if re.fullmatch(rf"[^\W\dʼ]{{1,{_LONGEST_NAME}}}", name)]  # ʼ: would be spelt out
    chosen = settings.generator(params.seed, "names", at).permutation(len(names))[:_WORDS]
    said = [names[i] for i in chosen]
    if kind == 9:
        said[0] = _text(language, at - 2, 7, params).partition(",")[0]
    return ", ".join(said) + "."
