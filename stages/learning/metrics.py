"""Scores of a language recogniser, in numpy.

Arguments throughout: `scores` (clips, languages), log-probabilities, rows that sum to one in the linear domain;
`labels` (clips,), the number of each clip's language.

Cavg: the average detection cost of NIST's Language Recognition Evaluations, pairwise form (LRE 2009 to 2015 plans),
P_target = 0.5, C_miss = C_fa = 1: for each target language the miss rate on its own clips and the false-alarm rate on
each other language's clips, all languages counting the same:

    Cavg = 1/N sum_T [ P_target P_miss(T) + (1 - P_target) / (N - 1) sum_{O != T} P_fa(T, O) ]

A language is detected where its log-likelihood ratio against the mean of the others exceeds log((1 - P_target) /
P_target) = 0. "actual" uses that threshold, "minimum" the best single threshold for all languages, found on these same
scores: the gap between the two is what calibration could still give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

P_TARGET = 0.5
TINY = 1e-12  # probabilities below this are rounding


def pool_windows(probabilities: np.ndarray, clip: np.ndarray, n_clips: int) -> np.ndarray:
    """Mean of the log-probabilities over each clip's windows, normalised again.

    probabilities : (windows, languages); clip : (windows,), the clip of each window
    Returns (n_clips, languages) log-probabilities, float64. Every clip has at least one window.
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), TINY))
    total = np.zeros((n_clips, probabilities.shape[1]))
    np.add.at(total, clip, logs)
    mean = total / np.bincount(clip, minlength=n_clips)[:, None]
    out: np.ndarray = mean - logsumexp(mean, axis=1, keepdims=True)
    return out


def temper(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log-probabilities by a temperature and normalise: > 1 makes them less sure."""
    scaled = scores / temperature
    out: np.ndarray = scaled - logsumexp(scaled, axis=1, keepdims=True)
    return out


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(scores.argmax(axis=1) == labels))


def top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of clips whose language is among the k best."""
    return float(np.mean(among_top(scores, labels, k)))


def among_top(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(clips,) 1 where the language is among the k best, else 0; ties count half against it, as a coin would."""
    own = scores[np.arange(len(labels)), labels][:, None]
    above = (scores > own).sum(axis=1)
    equal = (scores == own).sum(axis=1)  # its own included
    out: np.ndarray = np.clip((k - above) / equal, 0, 1)
    return out


def log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-probability of the right language, in nats; chance is log(languages)."""
    return float(-np.mean(scores[np.arange(len(labels)), labels]))


@dataclass(frozen=True)
class LanguageScore:
    """Recall, precision and F1 of one language; n : its clips. Precision is 0 where it was never predicted."""

    recall: float
    precision: float
    f1: float
    n: int


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, n_languages: int) -> np.ndarray:
    """(languages, languages) counts; rows are the actual languages."""
    counts = np.zeros((n_languages, n_languages), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def language_scores(predicted: np.ndarray, labels: np.ndarray, n_languages: int) -> list[LanguageScore]:
    counts = confusion_matrix(predicted, labels, n_languages)
    right = np.diag(counts).astype(float)
    n, n_predicted = counts.sum(axis=1), counts.sum(axis=0)
    recall = right / np.maximum(n, 1)
    precision = right / np.maximum(n_predicted, 1)
    f1 = 2 * right / np.maximum(n + n_predicted, 1)
    table = zip(recall, precision, f1, n, strict=True)
    return [LanguageScore(float(r), float(p), float(f), int(count)) for r, p, f, count in table]


def macro_f1(predicted: np.ndarray, labels: np.ndarray, n_languages: int) -> float:
    """Mean F1 over the languages that have clips here."""
    return float(np.mean([s.f1 for s in language_scores(predicted, labels, n_languages) if s.n]))


@dataclass(frozen=True)
class ReliabilityBin:
    """Clips whose highest probability lies in (low, high]: how sure, and how often right."""

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def bin_numbers(confidence: np.ndarray, bins: int) -> np.ndarray:
    """(clips,) number of the bin of equal width, closed above, that a probability lies in."""
    out: np.ndarray = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return out


def reliability(scores: np.ndarray, labels: np.ndarray, bins: int) -> list[ReliabilityBin]:
    """Equal-width bins of the winner's probability; empty ones are left out."""
    confidence = np.exp(scores.max(axis=1))
    right = scores.argmax(axis=1) == labels
    number = bin_numbers(confidence, bins)
    out = []
    for b in range(bins):
        inside = number == b
        if inside.any():
            out.append(
                ReliabilityBin(
                    b / bins,
                    (b + 1) / bins,
                    float(confidence[inside].mean()),
                    float(right[inside].mean()),
                    int(inside.sum()),
                )
            )
    return out


def ece(scores: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Expected calibration error: mean distance of sureness from accuracy over the bins (Naeini et al. 2015)."""
    return float(sum(b.n * abs(b.confidence - b.accuracy) for b in reliability(scores, labels, bins)) / len(labels))


def log_likelihood_ratios(scores: np.ndarray) -> np.ndarray:
    """(clips, languages): each language against the mean likelihood of the others.

    The network's probabilities stand for likelihoods, which holds where it was trained on balanced classes or with
    class weights that balance them.
    """
    n = scores.shape[1]
    out = np.empty(scores.shape)
    for language in range(n):
        others = np.delete(scores, language, axis=1)
        out[:, language] = scores[:, language] - (logsumexp(others, axis=1) - np.log(max(n - 1, 1)))
    return out


def _detection_trials(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Trials of each clip against each language that has clips: ratios, is it the target, what an error costs.

    The costs are those of Cavg: for all targets together 0.5, for all others together 0.5. None where fewer than two
    languages have clips.
    """
    present = np.unique(labels)
    n = len(present)
    if n < 2:
        return None
    ratios = log_likelihood_ratios(scores)[:, present]
    target = labels[:, None] == present[None, :]
    clips_of = np.bincount(labels)[labels][:, None]  # clips of the language that each clip is in
    cost = np.where(target, P_TARGET / (n * clips_of), (1 - P_TARGET) / (n * (n - 1) * clips_of))
    return ratios.ravel(), target.ravel(), cost.ravel()


def cavg(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(actual, minimum) of Cavg as the module's head defines it; nan where fewer than two languages have clips."""
    trials = _detection_trials(scores, labels)
    if trials is None:
        return float("nan"), float("nan")
    ratio, target, cost = trials
    threshold = np.log((1 - P_TARGET) / P_TARGET)
    actual = cost[target & (ratio <= threshold)].sum() + cost[~target & (ratio > threshold)].sum()
    order = np.argsort(ratio, kind="stable")
    ratio, target, cost = ratio[order], target[order], cost[order]
    # everything up to and with this trial is refused, everything above is accepted
    missed = np.cumsum(np.where(target, cost, 0))
    accepted = cost[~target].sum() - np.cumsum(np.where(target, 0, cost))
    possible = np.append(ratio[1:] != ratio[:-1], True)  # no threshold lies between equals
    lowest = min(cost[~target].sum(), (missed + accepted)[possible].min())
    return float(actual), max(0.0, float(lowest))  # sums of many small costs end a rounding below zero


def eer(scores: np.ndarray, labels: np.ndarray) -> float:
    """Equal error rate, all one-against-the-rest trials pooled: misses = false alarms, linear between thresholds.

    nan where fewer than two languages have clips.
    """
    trials = _detection_trials(scores, labels)
    if trials is None:
        return float("nan")
    ratio, target, _ = trials
    order = np.argsort(ratio, kind="stable")
    ratio, target = ratio[order], target[order]
    possible = np.append(ratio[1:] != ratio[:-1], True)
    return crossing(np.cumsum(target)[possible] / target.sum(), 1 - np.cumsum(~target)[possible] / (~target).sum())


def crossing(miss: np.ndarray, alarm: np.ndarray) -> float:
    """Where misses equal false alarms, linear between thresholds.

    miss, alarm : (thresholds,) the rates when all up to a threshold is refused, rising from above 0 to 1 and falling
        from below 1 to 0; that nothing is refused is added here.
    """
    miss = np.concatenate([[0.0], miss])
    alarm = np.concatenate([[1.0], alarm])
    after = int(np.argmax(miss >= alarm))  # the curves cross between after - 1 and after
    gap_before, gap_after = alarm[after - 1] - miss[after - 1], miss[after] - alarm[after]
    share = gap_before / (gap_before + gap_after)
    return float(miss[after - 1] + share * (miss[after] - miss[after - 1]))


@dataclass(frozen=True)
class Interval:
    """95 % interval; over : what was drawn, "groups" or "clips"."""

    low: float
    high: float
    over: str


def bootstrap_accuracy(right: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> Interval:
    """95 % percentile interval of the accuracy: draw as many groups as there are, with replacement, and score again.

    Clips of one speaker or source share their faults, so the groups are what is drawn; the interval of clips drawn
    one by one would be too narrow. With a single group there is nothing to draw from but the clips, and the interval
    says so in `over`: it then holds for this one speaker or source only.

    right : (clips,) bool; groups : (clips,) any labels
    """
    names, number = np.unique(groups, return_inverse=True)
    over = "groups"
    if len(names) < 2:
        number, over = np.arange(len(right)), "clips"
    n = np.bincount(number).astype(float)
    hits = np.bincount(number, weights=right.astype(float))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        drawn = np.bincount(rng.integers(0, len(n), len(n)), minlength=len(n))
        values.append((drawn @ hits) / (drawn @ n))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high), over)
