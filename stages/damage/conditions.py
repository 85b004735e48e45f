"""Test clips under every condition, as images for the network.

A clip is represented by one piece of it, as long as the network's window and from a place of its own (a shorter clip by
all of it); codecs and noise work on that piece. Pieces of other lengths come from the same relative place, so a shorter
one lies inside the longer ones. Everything random depends on (seed, clip) only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from stages.damage.codecs import through_codec
from stages.damage.noise import add_noise, babble, white_noise
from stages.learning.sound_clips import Clip, stable_number
from stages.logmel import log_mel
from stages.pipeline.data_params import LogmelParams, ResizeParams
from stages.pipeline.model_params import RobustnessParams
from stages.pipeline.shards import Shard
from stages.resize import resize_to_image

UNDAMAGED, SECONDS, CODEC, WHITE, BABBLE = "undamaged", "seconds", "codec", "white_noise", "babble"
VOICES = 6  # in the babble


class Condition(NamedTuple):
    """What is done to the clips, and how much of it."""

    damage: str
    setting: str

    def __str__(self) -> str:
        if self.damage == SECONDS:
            return f"{self.setting} s"
        if self.damage in (WHITE, BABBLE):
            return f"{self.damage.replace('_', ' ')} {self.setting} dB"
        return self.setting or self.damage


@dataclass(frozen=True)
class Task:
    """Some clips under all conditions; picklable.

    first : the number of the first of them among all clips
    voices : for each clip those that babble behind it
    """

    first: int
    clips: tuple[Clip, ...]
    voices: tuple[tuple[Clip, ...], ...]
    conditions: tuple[Condition, ...]
    seed: int
    logmel: LogmelParams
    resize: ResizeParams
    ffmpeg: str


@dataclass(frozen=True)
class Damaged:
    """images : (windows, height, width, 1) uint8; condition, clip : (windows,), what each is of, counted from 0."""

    images: np.ndarray
    condition: np.ndarray
    clip: np.ndarray


def conditions_of(params: RobustnessParams, has_babble: bool) -> tuple[Condition, ...]:
    """Undamaged first; the rest in the order of the params. No babble where there is nobody to babble."""
    found = [Condition(UNDAMAGED, "")]
    found += [Condition(SECONDS, f"{seconds:g}") for seconds in params.seconds]
    found += [Condition(CODEC, codec) for codec in params.codecs]
    for noise in (WHITE, BABBLE) if has_babble else (WHITE,):
        found += [Condition(noise, f"{snr_db:g}") for snr_db in params.snr_db]
    return tuple(found)


def generator(seed: int, use: str, clip_id: str) -> np.random.Generator:
    """Random numbers of one clip for one use."""
    return np.random.default_rng(stable_number(seed, use, clip_id))


def choose_voices(clips: Sequence[Clip], seed: int) -> list[tuple[Clip, ...]]:
    """For each clip up to VOICES others, of other languages and other groups, that babble behind it.

    All clips stand in a circle, in an order of chance; each takes those that follow a place of its own.
    """
    circle = sorted((stable_number(seed, "babble", clip.id), clip) for clip in clips)
    places = [place for place, _ in circle]
    found = []
    for clip in clips:
        start = bisect_left(places, stable_number(seed, "behind", clip.id))
        others = (circle[(start + step) % len(circle)][1] for step in range(len(circle)))
        fit = (other for other in others if other.language != clip.language and other.group != clip.group)
        found.append(tuple(islice(fit, VOICES)))
    return found


def images_of(task: Task) -> Damaged:
    """All conditions of some clips; a clip that is shorter than a condition's seconds is not among its images."""
    pieces = _Pieces(task)
    images: list[np.ndarray] = []
    condition: list[int] = []
    clip: list[int] = []
    for number, what in enumerate(task.conditions):
        for index, sound in pieces.under(what):
            rate_hz = task.clips[index].rate_hz
            bands = log_mel(sound, rate_hz, task.logmel)
            found = resize_to_image(bands, rate_hz / task.logmel.hop_length, task.resize)
            images.append(found)
            condition += [number] * len(found)
            clip += [task.first + index] * len(found)
    return Damaged(np.concatenate(images), np.array(condition), np.array(clip))


class _Pieces:
    """The sound of a task's clips: read once, then damaged in one way after another."""

    def __init__(self, task: Task) -> None:
        self._task = task
        wanted = {clip for voices in task.voices for clip in voices} | set(task.clips)
        # as long as a row of seconds can be, so that all rows are scores of as much sound
        longest = max([task.resize.window_seconds, *(float(w.setting) for w in task.conditions if w.damage == SECONDS)])
        self._longest = {clip: cut(clip, longest, task.seed) for clip in wanted}
        self._sound: dict[Clip, np.ndarray] = {}
        for shard in sorted({clip.shard for clip in wanted}):
            with Shard(shard) as opened:
                for clip in wanted:
                    if clip.shard == shard:
                        self._sound[clip] = opened.view(clip.row)[self._longest[clip]]

    def piece(self, clip: Clip, seconds: float) -> np.ndarray:
        part, whole = cut(clip, seconds, self._task.seed), self._longest[clip]
        return self._sound[clip][part.start - whole.start : part.stop - whole.start]

    def under(self, condition: Condition) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the clip, its samples as int16)."""
        task, clips = self._task, self._task.clips
        if condition.damage == SECONDS:
            seconds = float(condition.setting)
            for index, clip in enumerate(clips):
                if clip.length >= round(seconds * clip.rate_hz):
                    yield index, self.piece(clip, seconds)
            return
        pieces = [self._sound[clip] for clip in clips]
        if condition.damage == CODEC:
            for rate_hz in sorted({clip.rate_hz for clip in clips}):
                same = [index for index, clip in enumerate(clips) if clip.rate_hz == rate_hz]
                yield from zip(
                    same,
                    through_codec([pieces[index] for index in same], rate_hz, condition.setting, task.ffmpeg),
                    strict=True,
                )
        elif condition.damage in (WHITE, BABBLE):
            for index, (clip, piece) in enumerate(zip(clips, pieces, strict=True)):
                rng = generator(task.seed, condition.damage, clip.id)  # the same noise at each ratio
                if condition.damage == BABBLE and not task.voices[index]:
                    continue
                if condition.damage == WHITE:
                    noise = white_noise(len(piece), rng)
                else:
                    voices = [self._sound[voice] for voice in task.voices[index]]
                    noise = babble(voices, len(piece), clip.rate_hz, rng)
                yield index, add_noise(piece, noise, float(condition.setting), clip.rate_hz)
        else:
            yield from enumerate(pieces)


def cut(clip: Clip, seconds: float, seed: int) -> slice:
    """The part of a clip that is so long, or all of it; its place is the same share of what room there is."""
    samples = min(clip.length, round(seconds * clip.rate_hz))
    start = round(generator(seed, "place", clip.id).random() * (clip.length - samples))
    return slice(start, start + samples)
