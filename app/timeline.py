"""Who speaks which language from when to when: overlapping short windows of the speech, smoothed over time.

Every second of speech is asked about with the few seconds around it (never across a pause of a second or more). One
window errs often; languages change seldom. So the sequence of languages is the likeliest one under a hidden Markov
model whose states are the languages and whose only parameter is what a change costs (Viterbi).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from app.speech import Stretch

STEP = 1.0  # seconds from one question to the next
WINDOW = 4.0  # seconds of sound in one, where the speech is so long
_APART = 1.0  # seconds of pause that a window does not reach across
_CHANGE = 3.0  # nats that a change of language costs: a few sure windows are enough for one
_TINY = 1e-12


@dataclass(frozen=True)
class Segment:
    """Speech of one language. start, end : seconds; probability : of the language, pooled over its windows."""

    start: float
    end: float
    language: str
    probability: float


@dataclass(frozen=True)
class Step:
    """A second of speech. start, end : it; window : the sound around it that is asked about. All in seconds."""

    start: float
    end: float
    window: Stretch


def steps_of(stretches: list[Stretch], window: float = WINDOW) -> list[Step]:
    """Cut speech into steps, in order. What stands less than a second apart shares its windows."""
    runs: list[list[Stretch]] = []
    for stretch in stretches:
        if runs and stretch[0] - runs[-1][-1][1] < _APART:
            runs[-1].append(stretch)
        else:
            runs.append([stretch])
    found = []
    for run in runs:
        first, last = run[0][0], run[-1][1]
        for start, end in run:
            count = max(1, round((end - start) / STEP))
            edges = np.linspace(start, end, count + 1)
            for since, to in pairwise(edges):
                begin = min(max(first, (since + to - window) / 2), max(first, last - window))
                found.append(Step(float(since), float(to), (float(begin), float(min(last, begin + window)))))
    return found


def smooth(steps: list[Step], probabilities: np.ndarray) -> np.ndarray:
    """The likeliest language at each step: (steps,) int64.

    probabilities : (steps, languages), of each step's window. Windows overlap: each counts for its step's share only.
    """
    shares = np.array([(step.end - step.start) / max(STEP, step.window[1] - step.window[0]) for step in steps])
    evidence = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) * shares[:, None]
    best = evidence[0]
    came_from = np.zeros(evidence.shape, np.int64)
    for number in range(1, len(evidence)):
        top = int(best.argmax())
        changes = best[top] - _CHANGE > best
        came_from[number] = np.where(changes, top, np.arange(len(best)))
        best = np.where(changes, best[top] - _CHANGE, best) + evidence[number]
    path = np.zeros(len(evidence), np.int64)
    path[-1] = int(best.argmax())
    for number in range(len(evidence) - 1, 0, -1):
        path[number - 1] = came_from[number, path[number]]
    return path


def segments_of(
    steps: list[Step], probabilities: np.ndarray, languages: tuple[str, ...], threshold: float | None, unknown: str
) -> tuple[Segment, ...]:
    """Join neighbouring steps of one language; silences of more than a second part them.

    threshold : a segment whose language is less probable than this is `unknown`.
    """
    if not steps:
        return ()
    path = smooth(steps, probabilities)
    joined: list[list[int]] = []
    for number in range(len(steps)):
        before = joined[-1][-1] if joined else None
        if before is not None and path[before] == path[number] and steps[number].start - steps[before].end < _APART:
            joined[-1].append(number)
        else:
            joined.append([number])
    found = []
    for numbers in joined:
        probability = float(pooled(probabilities[numbers])[path[numbers[0]]])
        name = languages[path[numbers[0]]]
        if threshold is not None and probability < threshold:
            name = unknown
        found.append(Segment(steps[numbers[0]].start, steps[numbers[-1]].end, name, probability))
    return tuple(found)


def pooled(probabilities: np.ndarray) -> np.ndarray:
    """(windows, languages) -> (languages,): the mean of the logarithms, normalised again."""
    mean = np.log(np.maximum(probabilities.astype(np.float64), _TINY)).mean(axis=0)
    likelihood = np.exp(mean - mean.max())
    shares: np.ndarray = likelihood / likelihood.sum()
    return shares
