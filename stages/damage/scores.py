"""Accuracy of the clips under each condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.damage.conditions import Condition
from stages.learning.metrics import bootstrap_accuracy
from stages.learning.sound_clips import Clip


@dataclass(frozen=True)
class Score:
    """accuracy, low, high : of the clips under this condition, with the 95 % interval over groups.

    undamaged : accuracy of the very same clips as they were.
    left_out : clips that could not be put through it: shorter than the seconds, or nobody to babble.
    """

    condition: Condition
    accuracy: float
    low: float
    high: float
    undamaged: float
    n_clips: int
    n_groups: int
    left_out: int


def score_conditions(
    right: np.ndarray, conditions: Sequence[Condition], clips: Sequence[Clip], samples: int, seed: int
) -> list[Score]:
    """One score a condition, but for those that no clip could be put through.

    right : (conditions, clips), 1 right, 0 wrong, nan left out; the first condition is the undamaged one
    samples, seed : of the bootstrap
    """
    groups = np.array([clip.group for clip in clips])
    scores = []
    for condition, row in zip(conditions, right, strict=True):
        here = np.isfinite(row)
        if not here.any():
            continue
        interval = bootstrap_accuracy(row[here] == 1, groups[here], samples, seed)
        scores.append(
            Score(
                condition,
                accuracy=float(row[here].mean()),
                low=interval.low,
                high=interval.high,
                undamaged=float(right[0][here].mean()),
                n_clips=int(here.sum()),
                n_groups=len(set(groups[here])),
                left_out=int((~here).sum()),
            )
        )
    return scores
