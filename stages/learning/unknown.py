"""Does a recording speak one of the model's languages at all? Detection by the probability of the best one.

A clip is taken for known where that probability is at least a threshold, else the answer is "unknown" (the maximum
softmax probability of Hendrycks and Gimpel, 2017). The two errors are a known language refused and an unknown one
accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.learning.calibration import language_weights
from stages.learning.intervals import draws_of_groups, percentiles
from stages.learning.metrics import Interval, crossing
from stages.learning.scoring import Scored


@dataclass(frozen=True)
class Detection:
    """Clips in order of rising sureness.

    sureness : (clips,) probability of the best language; known : (clips,) whether the model has the clip's language
    weight : (clips,) with which all known languages count the same, and all unknown ones
    groups : (clips,)
    """

    sureness: np.ndarray
    known: np.ndarray
    weight: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class ErrorCurve:
    """Error rates where every clip less sure than `threshold` is refused; (thresholds,), rising.

    The first threshold refuses nothing, the last everything.
    """

    threshold: np.ndarray
    refused_known: np.ndarray
    accepted_unknown: np.ndarray

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: how often a known clip is surer than an unknown one."""
        return float(-np.trapezoid(1 - self.refused_known, self.accepted_unknown))

    @property
    def eer(self) -> float:
        """Equal error rate, linear between thresholds."""
        return crossing(self.refused_known[1:], self.accepted_unknown[1:])


def detect(known: Scored, foreign: Scored) -> Detection:
    """known, foreign : calibrated scores of the same model; of `foreign`, labels number the unknown languages."""
    sureness = np.concatenate([known.sureness, foreign.sureness])
    order = np.argsort(sureness, kind="stable")
    is_known = np.arange(len(sureness)) < len(known.labels)
    weight = np.concatenate([language_weights(known.labels), language_weights(foreign.labels)])
    groups = np.concatenate([known.groups, foreign.groups])
    return Detection(sureness[order], is_known[order], weight[order], groups[order])


def error_curve(detection: Detection, times: np.ndarray | None = None) -> ErrorCurve:
    """The curve of all clips, or with clip i standing `times[i]` times; there must be known and unknown ones."""
    weight = detection.weight if times is None else detection.weight * times
    sureness = detection.sureness
    possible = np.append(np.diff(sureness) != 0, True)  # no threshold lies between equals
    rates = []
    for members in (detection.known, ~detection.known):
        below = np.cumsum(weight * members)
        rates.append(np.concatenate([[0.0], below[possible] / below[-1]]))
    distinct = sureness[possible]
    between = np.concatenate([[0.0], (distinct[:-1] + distinct[1:]) / 2, [1.0]])
    return ErrorCurve(between, rates[0], 1 - rates[1])


def equal_error_threshold(detection: Detection) -> float:
    """Where the two error rates are closest."""
    curve = error_curve(detection)
    return float(curve.threshold[np.abs(curve.refused_known - curve.accepted_unknown).argmin()])


def error_rates(detection: Detection, threshold: float, times: np.ndarray | None = None) -> tuple[float, float]:
    """Share of the known clips that are refused and of the unknown ones that are accepted."""
    weight = detection.weight if times is None else detection.weight * times
    known, accepted = detection.known, detection.sureness >= threshold
    refused = (weight * known * ~accepted).sum() / (weight * known).sum()
    return float(refused), float((weight * ~known * accepted).sum() / (weight * ~known).sum())


def detection_scores(
    detection: Detection, threshold: float, samples: int, seed: int
) -> dict[str, tuple[float, Interval]]:
    """auroc, eer, and at the threshold refused_known and accepted_unknown, each with its 95 % interval over groups."""

    def scores(times: np.ndarray | None) -> list[float]:
        curve = error_curve(detection, times)
        return [curve.auroc, curve.eer, *error_rates(detection, threshold, times)]

    draws, over = draws_of_groups(detection.groups, samples, seed)
    values = [
        scores(times)
        for drawn in draws
        for times in drawn.T
        if times[detection.known].any() and times[~detection.known].any()
    ]
    table = np.array(values).reshape(-1, 4)
    names = ("auroc", "eer", "refused_known", "accepted_unknown")
    return {
        name: (value, percentiles(table[:, i], over))
        for i, (name, value) in enumerate(zip(names, scores(None), strict=True))
    }
