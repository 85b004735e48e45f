"""One temperature for all probabilities (Guo et al., On Calibration of Modern Neural Networks, 2017).

A network that has learnt its training clips well is surer of new ones than it is right, and one trained with smoothed
labels less sure. Dividing its log-probabilities by a temperature mends the most of both, and changes no ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from stages.learning.intervals import Interval, draws_of_groups

LOWEST, HIGHEST = 0.02, 50.0
_DIGITS = 5  # of the temperature
_GRID = 81  # temperatures at which the interval's draws are compared


@dataclass(frozen=True)
class Temperature:
    """value : that was fitted; interval : 95 %, over the groups of the clips that it was fitted on."""

    value: float
    interval: Interval


def language_weights(labels: np.ndarray) -> np.ndarray:
    """(clips,) weights with which every language that has clips counts the same; their mean is 1."""
    count = np.bincount(labels)
    present = int(np.count_nonzero(count))
    weights: np.ndarray = len(labels) / (present * count[labels])
    return weights


def tempered_loss(scores: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """(clips,) log loss of each clip at a temperature, against targets that leave room for doubt.

    The targets are Platt's (1999): of n clips, the right language gets (n + 1) / (n + 2) and the others share the
    rest. Without them, a validation split without an error would ask for a temperature of 0, that is for certainty.

    scores : (clips, languages) log-probabilities; labels : (clips,)
    """
    clips, languages = scores.shape
    scaled = scores / temperature
    scaled = scaled - logsumexp(scaled, axis=1, keepdims=True)
    own = scaled[np.arange(clips), labels]
    doubt = 1 / (clips + 2)
    out: np.ndarray = -((1 - doubt) * own + doubt * (scaled.sum(axis=1) - own) / max(1, languages - 1))
    return out


def fit_temperature(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> Temperature:
    """The temperature of the least log loss, all languages counting the same.

    scores : (clips, languages) log-probabilities at temperature 1; labels, groups : (clips,); at least one clip
    """
    weights = language_weights(labels)

    def loss(log_temperature: float) -> float:
        return float(weights @ tempered_loss(scores, labels, float(np.exp(log_temperature))))

    bounds = (np.log(LOWEST), np.log(HIGHEST))  # convex in 1 / temperature: there is one minimum
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 10.0**-_DIGITS}).x
    # rounded to what the search can tell: the digits after it depend on the processor, and dvc.lock would with them
    value = round(float(np.exp(found)), _DIGITS)
    # the draws differ from the whole by less than a factor of four, or the split is too small to say anything
    grid = value * np.geomspace(1 / 4, 4, _GRID)
    losses = np.stack([weights * tempered_loss(scores, labels, float(t)) for t in grid], axis=1)  # (clips, grid)
    draws, over = draws_of_groups(groups, samples, seed)
    best = np.concatenate([grid[(losses.T @ drawn).argmin(axis=0)] for drawn in draws])
    low, high = np.quantile(best, [0.025, 0.975])
    return Temperature(value, Interval(float(min(low, value)), float(max(high, value)), over))
