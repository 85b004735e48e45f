"""95 % intervals of scores, bootstrapped over groups: draw as many groups as there are, with replacement, score again.

Clips of one speaker or source share their faults, so the groups are what is drawn; the interval of clips drawn one by
one would be too narrow. With a single group there is nothing to draw from but the clips, and the interval says so.

A score is computed for all draws at once: from `columns`, what each clip adds to sums, and a function of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stages.learning import metrics
from stages.learning.metrics import Interval

_NUMBERS_AT_ONCE = 4_000_000
_TRIALS_IN_ALL = 300_000_000  # of scores that need a sorted list for each draw
_LEAST_DRAWS = 200

__all__ = ["Interval", "Score", "draws_of_groups", "interval", "mean_of", "scores_of", "threshold_intervals"]


@dataclass(frozen=True)
class Score:
    """columns : (clips, sums), sparse; of : (sums, draws) -> (draws,), the score of each draw."""

    columns: sparse.csr_array
    of: Callable[[np.ndarray], np.ndarray]


def draws_of_groups(groups: np.ndarray, samples: int, seed: int) -> tuple[Iterator[np.ndarray], str]:
    """How often each clip stands in each draw, and what was drawn: "groups" or "clips".

    groups : (clips,) any labels
    Yields (clips, some draws) float64, `samples` draws in all, a bounded number at once.
    """
    names, number = np.unique(groups, return_inverse=True)
    over = "groups"
    if len(names) < 2:
        number, over = np.arange(len(groups)), "clips"
    count = int(number.max()) + 1
    rng = np.random.default_rng(seed)

    def make() -> Iterator[np.ndarray]:
        step = max(1, _NUMBERS_AT_ONCE // max(1, len(groups)))
        for first in range(0, samples, step):
            some = min(step, samples - first)
            drawn = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(some)]
            yield np.stack(drawn, axis=1)[number].astype(float)

    return make(), over


def interval(scores: dict[str, Score], groups: np.ndarray, samples: int, seed: int) -> dict[str, Interval]:
    """Of each score, all from the same draws; nan where a draw has none, left out unless all have none."""
    draws, over = draws_of_groups(groups, samples, seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for drawn in draws:
        for name, score in scores.items():
            found[name].append(score.of(score.columns.T @ drawn))
    return {name: percentiles(np.concatenate(values), over) for name, values in found.items()}


def percentiles(values: np.ndarray, over: str) -> Interval:
    """2.5 % and 97.5 % of (draws,) scores; draws without a score (nan) don't count."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), over)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high), over)


def mean_of(values: np.ndarray) -> Score:
    """The mean of (clips,) values."""
    columns = sparse.csr_array(np.stack([values, np.ones(len(values))], axis=1))
    return Score(columns, lambda sums: sums[0] / sums[1])


def _ece(scores: np.ndarray, labels: np.ndarray, bins: int) -> Score:
    confidence = np.exp(scores.max(axis=1))
    off = confidence - (scores.argmax(axis=1) == labels)
    number = metrics.bin_numbers(confidence, bins)
    in_bins = sparse.csr_array((off, (np.arange(len(off)), number)), shape=(len(off), bins))
    columns = sparse.hstack([in_bins, np.ones((len(off), 1))], format="csr")
    return Score(columns, lambda sums: np.abs(sums[:-1]).sum(axis=0) / sums[-1])


def _one_hot(numbers: np.ndarray, width: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(numbers)), (np.arange(len(numbers)), numbers)), shape=(len(numbers), width))


def _macro_f1(predicted: np.ndarray, labels: np.ndarray, n_languages: int) -> Score:
    own = _one_hot(labels, n_languages)
    hits = sparse.diags_array((predicted == labels).astype(float)) @ own
    columns = sparse.hstack([hits, own, _one_hot(predicted, n_languages)], format="csr")

    def score(sums: np.ndarray) -> np.ndarray:
        hit, n, named = np.split(sums, 3)
        f1 = np.where(n > 0, 2 * hit / np.maximum(n + named, 1), np.nan)
        out: np.ndarray = np.nanmean(f1, axis=0)
        return out

    return Score(columns, score)


def _cavg(scores: np.ndarray, labels: np.ndarray) -> Score | None:
    """Actual Cavg, from each language's misses and from the false alarms in its clips."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    n_languages = scores.shape[1]
    accepted = metrics.log_likelihood_ratios(scores) > np.log((1 - metrics.P_TARGET) / metrics.P_TARGET)
    hit = accepted[np.arange(len(labels)), labels]
    own = _one_hot(labels, n_languages)
    missed = sparse.diags_array((~hit).astype(float)) @ own
    alarms = sparse.diags_array(accepted[:, present].sum(axis=1) - hit.astype(float)) @ own
    columns = sparse.hstack([missed, alarms, own], format="csr")

    def score(sums: np.ndarray) -> np.ndarray:
        miss, alarm, n = np.split(sums, 3)
        languages = (n > 0).sum(axis=0)
        share = metrics.P_TARGET * miss + (1 - metrics.P_TARGET) * alarm / np.maximum(languages - 1, 1)
        costs = (share / np.maximum(n, 1)).sum(axis=0) / np.maximum(languages, 1)
        out: np.ndarray = np.where(languages > 1, costs, np.nan)
        return out

    return Score(columns, score)


def scores_of(scores: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, Score]:
    """The scores of stages.learning.metrics that are functions of sums, by the names that they have in metrics.json.

    scores : (clips, languages) log-probabilities; labels : (clips,)
    """
    predicted = scores.argmax(axis=1)
    out = {
        "accuracy": mean_of((predicted == labels).astype(float)),
        "macro_f1": _macro_f1(predicted, labels, scores.shape[1]),
        "top3": mean_of(metrics.among_top(scores, labels, 3)),
        "log_loss": mean_of(-scores[np.arange(len(labels)), labels]),
        "ece": _ece(scores, labels, bins),
    }
    cavg = _cavg(scores, labels)
    return out | ({"cavg": cavg} if cavg else {})


def threshold_intervals(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> dict[str, Interval]:
    """Of `eer` and `cavg_min`, whose thresholds are sought anew in each draw; empty for fewer than two languages.

    The trials are sorted once. Where there are very many, fewer draws are made, at least 200.
    """
    present, own = np.unique(labels, return_inverse=True)
    n = len(present)
    if n < 2:
        return {}
    ratios = metrics.log_likelihood_ratios(scores)[:, present].ravel()  # trial = clip * n + language
    order = np.argsort(ratios, kind="stable")
    possible = np.append(np.diff(ratios[order]) != 0, True)
    clip, target = order // n, (own[:, None] == np.arange(n)).ravel()[order]
    draws, over = draws_of_groups(groups, int(np.clip(_TRIALS_IN_ALL // len(order), _LEAST_DRAWS, samples)), seed)
    eers, costs = [], []
    for drawn in draws:
        for times in drawn.T:
            clips_of = np.bincount(own, weights=times, minlength=n)
            languages = np.count_nonzero(clips_of)
            if languages < 2:
                continue
            here = times[clip] * (clips_of[order % n] > 0)  # a language that the draw lacks is no target in it
            missed = np.cumsum(here * target)[possible]
            alarm = np.cumsum(here * ~target)[possible]
            eers.append(metrics.crossing(missed / missed[-1], 1 - alarm / alarm[-1]))
            price = here / np.maximum(clips_of[own][clip], 1)
            miss = np.cumsum(price * target)[possible] * metrics.P_TARGET / languages
            refused = np.cumsum(price * ~target)[possible] * (1 - metrics.P_TARGET) / (languages * (languages - 1))
            costs.append(min(refused[-1], float((miss + refused[-1] - refused).min())))
    return {"eer": percentiles(np.array(eers), over), "cavg_min": percentiles(np.array(costs), over)}
