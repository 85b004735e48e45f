"""Two models on the same test clips: how much more of them does one get right, and how sure is that?

Clips that both have scored are compared one by one, so that what is hard about them falls out of the difference; its
interval is bootstrapped over the groups of those clips.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

from stages.learning.intervals import interval, mean_of

_SAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """accuracy of the second less that of the first, on `n_clips` that both scored; low, high : 95 % interval."""

    accuracy: float
    low: float
    high: float
    n_clips: int
    n_groups: int

    def __str__(self) -> str:
        return f"{self.accuracy:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Answer:
    """One line of metrics/evaluate/predictions.csv."""

    group: str
    actual: str
    right: bool


def read_predictions(text: str) -> dict[str, Answer]:
    """By the clip's id; the content of metrics/evaluate/predictions.csv."""
    return {
        row["id"]: Answer(row["group"], row["actual"], row["actual"] == row["predicted"])
        for row in csv.DictReader(io.StringIO(text))
    }


def paired_difference(
    before: dict[str, Answer], after: dict[str, Answer], language: str = "", seed: int = 1
) -> Difference | None:
    """On the clips that stand in both with the same label; None where there are none. language : "" for all."""
    shared = [
        name
        for name, answer in before.items()
        if name in after and after[name].actual == answer.actual and language in ("", answer.actual)
    ]
    if not shared:
        return None
    gained = np.array([float(after[name].right) - float(before[name].right) for name in shared])
    groups = np.array([after[name].group for name in shared])
    found = interval({"difference": mean_of(gained)}, groups, _SAMPLES, seed)["difference"]
    return Difference(float(gained.mean()), found.low, found.high, len(shared), len(set(groups)))
