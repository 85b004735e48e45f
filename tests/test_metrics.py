"""Scores against scikit-learn and against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn import metrics as reference

from stages.learning import metrics


def sample(seed: int, clips: int = 200, languages: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, languages, clips)
    labels[:languages] = np.arange(languages)
    logits = rng.normal(size=(clips, languages)) + 1.5 * np.eye(languages)[labels]
    return log_softmax(logits, axis=1), labels


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_agree_with_scikit_learn(seed: int) -> None:
    scores, labels = sample(seed)
    n = scores.shape[1]
    predicted = scores.argmax(axis=1)
    assert metrics.accuracy(scores, labels) == pytest.approx(reference.accuracy_score(labels, predicted))
    assert metrics.macro_f1(predicted, labels, n) == pytest.approx(
        reference.f1_score(labels, predicted, labels=np.arange(n), average="macro", zero_division=0)
    )
    assert metrics.top_k(scores, labels, 3) == pytest.approx(
        reference.top_k_accuracy_score(labels, scores, k=3, labels=np.arange(n))
    )
    probabilities = np.exp(scores)
    assert metrics.log_loss(scores, labels) == pytest.approx(
        reference.log_loss(labels, probabilities, labels=np.arange(n))
    )
    assert (metrics.confusion_matrix(predicted, labels, n) == reference.confusion_matrix(labels, predicted)).all()
    target = labels[:, None] == np.arange(n)
    alarm, hit, _ = reference.roc_curve(
        target.ravel(), metrics.log_likelihood_ratios(scores).ravel(), drop_intermediate=False
    )
    at = np.argmin(np.abs(alarm - (1 - hit)))
    # between two thresholds the rate moves by one trial at most
    assert metrics.eer(scores, labels) == pytest.approx((alarm[at] + 1 - hit[at]) / 2, abs=1 / len(labels))


def slow_cavg(ratios: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """The definition, term by term."""
    languages = sorted(set(labels.tolist()))
    total = 0.0
    for target in languages:
        total += 0.5 * np.mean(ratios[labels == target, target] <= threshold)
        for other in languages:
            if other != target:
                total += 0.5 / (len(languages) - 1) * np.mean(ratios[labels == other, target] > threshold)
    return total / len(languages)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.booleans())
def test_cavg_is_its_definition(seed: int, with_ties: bool) -> None:
    scores, labels = sample(seed, clips=60, languages=4)
    if with_ties:
        scores = log_softmax(np.round(scores), axis=1)
    ratios = metrics.log_likelihood_ratios(scores)
    actual, lowest = metrics.cavg(scores, labels)
    assert actual == pytest.approx(slow_cavg(ratios, labels, 0.0))
    thresholds = np.unique(ratios)
    best = min(slow_cavg(ratios, labels, t) for t in [thresholds[0] - 1, *thresholds])
    assert lowest == pytest.approx(best)
    assert lowest <= actual + 1e-12


def test_cavg_by_hand() -> None:
    # Two languages, p = .9/.1 for a right clip. Language 0: one of two clips right; language 1: both right.
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1])
    # target 0: miss 1/2, false alarm 0 of 2; target 1: miss 0, false alarm 1 of 2 -> (0.25 + 0.25) / 2
    assert metrics.cavg(np.log(p), labels)[0] == pytest.approx(0.25)
    assert metrics.eer(np.log(p), labels) == pytest.approx(0.25)


def test_perfect_and_useless() -> None:
    labels = np.repeat(np.arange(3), 10)
    sure = np.log(np.clip(np.eye(3)[labels], 1e-9, None))
    assert metrics.cavg(sure, labels) == (0.0, 0.0)
    assert metrics.eer(sure, labels) == 0
    assert metrics.ece(sure, labels, 10) == pytest.approx(0, abs=1e-6)
    same = np.full((30, 3), -np.log(3))
    assert metrics.cavg(same, labels)[1] == pytest.approx(0.5)  # accept all or none
    assert metrics.eer(same, labels) == pytest.approx(0.5)
    assert metrics.log_loss(same, labels) == pytest.approx(np.log(3))
    assert metrics.top_k(same, labels, 1) == pytest.approx(1 / 3)


def test_one_language_has_no_detection_scores() -> None:
    scores, _ = sample(1)
    labels = np.zeros(len(scores), int)
    assert np.isnan(metrics.eer(scores, labels))
    assert np.isnan(metrics.cavg(scores, labels)).all()


def test_languages_without_clips_do_not_count() -> None:
    scores, labels = sample(3)
    wide = np.full((len(scores), 8), -50.0)
    wide[:, : scores.shape[1]] = scores
    predicted = wide.argmax(axis=1)
    assert metrics.macro_f1(predicted, labels, 8) == pytest.approx(metrics.macro_f1(predicted, labels, 6))
    assert metrics.cavg(wide, labels)[1] < 0.5


def test_ece_by_hand() -> None:
    p = np.array([[0.95, 0.05], [0.91, 0.09], [0.65, 0.35], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    # bins of a tenth: (.9, 1] holds two, sure .93, right .5; (.6, .7] holds .65, right 1; (.5, .6] holds .6, right 1
    expected = (2 * 0.43 + 0.35 + 0.4) / 4
    assert metrics.ece(np.log(p), labels, 10) == pytest.approx(expected)
    assert [b.n for b in metrics.reliability(np.log(p), labels, 10)] == [1, 1, 2]


def test_windows_are_pooled_by_mean_log_probability() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], np.float32)
    pooled = np.exp(metrics.pool_windows(p, np.array([1, 0, 0]), 2))
    a, b = np.sqrt(0.9 * 0.2), np.sqrt(0.1 * 0.8)
    assert pooled == pytest.approx(np.array([[a, b] / (a + b), [0.5, 0.5]]), abs=1e-6)
    assert np.isfinite(metrics.pool_windows(np.array([[1.0, 0.0]], np.float32), np.array([0]), 1)).all()


def test_temperature_keeps_the_order() -> None:
    scores, _ = sample(5)
    softer = metrics.temper(scores, 2.0)
    assert (softer.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert np.exp(softer).sum(axis=1) == pytest.approx(1)
    assert softer.max() < scores.max()
    assert metrics.temper(scores, 1.0) == pytest.approx(scores)


def test_bootstrap_draws_groups() -> None:
    # 20 speakers, each all right or all wrong: the interval is that of 20 draws, not of 2,000
    hits = np.repeat(np.arange(20) < 12, 100)
    groups = np.repeat([f"speaker {i}" for i in range(20)], 100)
    by_group = metrics.bootstrap_accuracy(hits, groups, 2000, 1)
    one_by_one = metrics.bootstrap_accuracy(hits, np.arange(2000), 2000, 1)
    assert by_group.over == "groups"
    deviation = np.sqrt(0.6 * 0.4 / 20)
    assert by_group.high - by_group.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    assert one_by_one.high - one_by_one.low == pytest.approx(2 * 1.96 * deviation / 10, rel=0.15)
    assert by_group == metrics.bootstrap_accuracy(hits, groups, 2000, 1)


def test_bootstrap_of_a_single_group_says_so() -> None:
    hits = np.arange(100) % 4 != 0
    interval = metrics.bootstrap_accuracy(hits, np.array(["me"] * 100), 1000, 1)
    assert interval.over == "clips"
    assert interval.low < 0.75 < interval.high
