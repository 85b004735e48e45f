"""Temperature, intervals and the answer `unknown`, on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score, roc_curve

from stages.learning import metrics
from stages.learning.calibration import fit_temperature, language_weights
from stages.learning.intervals import draws_of_groups, interval, scores_of, threshold_intervals
from stages.learning.scoring import Scored
from stages.learning.unknown import detect, detection_scores, equal_error_threshold, error_curve, error_rates
from stages.pipeline.manifest_table import Row

SAMPLES = 100


def drawn(seed: int, clips: int = 4000, languages: int = 5, groups: int = 40) -> tuple[np.ndarray, ...]:
    """Log-probabilities that are exactly as sure as they are right, labels drawn from them, groups."""
    rng = np.random.default_rng(seed)
    scores = log_softmax(2 * rng.normal(size=(clips, languages)), axis=1)
    labels = (np.exp(scores).cumsum(axis=1) < rng.random((clips, 1))).sum(axis=1).clip(max=languages - 1)
    return scores, labels, np.arange(clips) % groups


@pytest.mark.parametrize("off", [0.3, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(off: float) -> None:
    scores, labels, groups = drawn(1)
    too_sure = metrics.temper(scores, 1 / off)  # off > 1: surer than right
    found = fit_temperature(too_sure, labels, groups, SAMPLES, seed=1)
    assert found.interval.low <= found.value <= found.interval.high
    assert found.interval.low < off < found.interval.high
    assert found.interval.over == "groups"
    assert found.interval.high / found.interval.low < 1.3
    fresh, fresh_labels, _ = drawn(2)
    before = metrics.temper(fresh, 1 / off)
    after = metrics.temper(before, found.value)
    assert metrics.ece(after, fresh_labels, 10) < 0.03
    assert off == 1.0 or metrics.ece(before, fresh_labels, 10) > 0.1
    assert metrics.log_loss(after, fresh_labels) <= metrics.log_loss(before, fresh_labels) + 1e-3
    for bin_ in metrics.reliability(after, fresh_labels, 5):
        assert bin_.n < 100 or abs(bin_.confidence - bin_.accuracy) < 0.06


def test_no_error_in_validation_does_not_make_it_certain() -> None:
    """Platt's targets: without them the temperature would be 0."""
    labels = np.arange(100) % 4
    scores = log_softmax(2.0 * np.eye(4)[labels], axis=1)
    found = fit_temperature(scores, labels, np.arange(100) % 5, SAMPLES, seed=1)
    p = np.exp(metrics.temper(scores, found.value)).max()
    assert p == pytest.approx(101 / 102, abs=1e-3)


def test_languages_count_the_same() -> None:
    weights = language_weights(np.array([0, 0, 0, 2]))
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())
    assert weights.mean() == pytest.approx(1)
    # language 0 has most clips and is far too sure, language 1 is as sure as it is right
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [3000, 300])
    scores = log_softmax(rng.normal(size=(3300, 2)) + np.eye(2)[labels], axis=1)
    scores[:3000] = metrics.temper(scores[:3000], 0.2)
    groups = np.arange(3300)
    plain = fit_temperature(scores[:3000], labels[:3000], groups[:3000], SAMPLES, 1).value
    both = fit_temperature(scores, labels, groups, SAMPLES, 1).value
    assert both < 0.9 * plain


def test_intervals_agree_with_the_scores_and_with_the_plain_bootstrap() -> None:
    scores, labels, groups = drawn(4, clips=300, groups=12)
    once = np.ones((300, 1))
    plain = {
        "accuracy": metrics.accuracy(scores, labels),
        "macro_f1": metrics.macro_f1(scores.argmax(axis=1), labels, 5),
        "top3": metrics.top_k(scores, labels, 3),
        "log_loss": metrics.log_loss(scores, labels),
        "ece": metrics.ece(scores, labels, 10),
        "cavg": metrics.cavg(scores, labels)[0],
    }
    by_sums = scores_of(scores, labels, 10)
    assert {name: score.of(score.columns.T @ once)[0] for name, score in by_sums.items()} == pytest.approx(plain)
    found = interval(by_sums, groups, 200, 7) | threshold_intervals(scores, labels, groups, 200, 7)
    right = scores.argmax(axis=1) == labels
    expected = metrics.bootstrap_accuracy(right, groups, 200, 7)
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((expected.low, expected.high))
    draws, _ = draws_of_groups(groups, 200, 7)
    times = np.concatenate(list(draws), axis=1).astype(int)
    slow: dict[str, list[float]] = {"eer": [], "cavg_min": [], "cavg": [], "macro_f1": []}
    for column in times.T:
        chosen = np.repeat(np.arange(300), column)
        slow["eer"].append(metrics.eer(scores[chosen], labels[chosen]))
        slow["cavg"].append(metrics.cavg(scores[chosen], labels[chosen])[0])
        slow["cavg_min"].append(metrics.cavg(scores[chosen], labels[chosen])[1])
        slow["macro_f1"].append(metrics.macro_f1(scores[chosen].argmax(axis=1), labels[chosen], 5))
    for name, values in slow.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx((low, high)), name


def test_draws_that_lack_a_language_are_scored_without_it() -> None:
    scores, labels, _ = drawn(5, clips=60, languages=3)
    found = threshold_intervals(scores, labels, labels, 50, 1)  # a group is a language
    draws, _ = draws_of_groups(labels, 50, 1)
    slow = []
    for column in np.concatenate(list(draws), axis=1).astype(int).T:
        chosen = np.repeat(np.arange(60), column)
        if len(set(labels[chosen])) > 1:
            slow.append(metrics.cavg(scores[chosen], labels[chosen])[1])
    assert (found["cavg_min"].low, found["cavg_min"].high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
    assert threshold_intervals(scores, np.zeros(60, int), labels, 50, 1) == {}


def clips_of(scores: np.ndarray, labels: np.ndarray, prefix: str) -> Scored:
    rows = [Row(f"{prefix}{i}", "", f"l{n}", f"{prefix}{i % 9}", "test", "", "000") for i, n in enumerate(labels)]
    return Scored(rows, [f"l{n}" for n in range(scores.shape[1])], scores, labels)


def known_and_unknown(seed: int, clips: int = 600) -> tuple[Scored, Scored]:
    """The known are surer: their own language stands out."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % 4
    known = log_softmax(rng.normal(size=(clips, 4)) + 3 * np.eye(4)[labels], axis=1)
    foreign = log_softmax(rng.normal(size=(clips // 2, 4)), axis=1)
    return clips_of(known, labels, "k"), clips_of(foreign, np.arange(clips // 2) % 2, "u")


def test_detection_agrees_with_scikit_learn() -> None:
    known, foreign = known_and_unknown(1)
    detection = detect(known, foreign)
    curve = error_curve(detection)
    truth = np.concatenate([np.ones(600), np.zeros(300)])
    sureness = np.concatenate([known.sureness, foreign.sureness])
    assert curve.auroc == pytest.approx(roc_auc_score(truth, sureness))
    alarm, hit, _ = roc_curve(truth, sureness)
    at = np.argmin(np.abs(alarm - (1 - hit)))
    assert curve.eer == pytest.approx((alarm[at] + 1 - hit[at]) / 2, abs=1 / 300)
    assert (curve.refused_known[0], curve.accepted_unknown[0]) == (0, 1)
    assert (curve.refused_known[-1], curve.accepted_unknown[-1]) == (1, 0)
    for i in (0, 3, len(curve.threshold) // 2, -2):
        rates = error_rates(detection, float(curve.threshold[i]))
        assert rates == pytest.approx((curve.refused_known[i], curve.accepted_unknown[i]))


def test_the_threshold_of_one_sample_serves_another() -> None:
    threshold = equal_error_threshold(detect(*known_and_unknown(1)))
    fresh = detect(*known_and_unknown(2))
    refused, accepted = error_rates(fresh, threshold)
    assert refused == pytest.approx(accepted, abs=0.06)
    scores = detection_scores(fresh, threshold, SAMPLES, seed=1)
    assert scores["refused_known"][0] == pytest.approx(refused)
    assert scores["accepted_unknown"][0] == pytest.approx(accepted)
    for name, (value, found) in scores.items():
        assert found.low < value < found.high, name
        assert found.over == "groups"


def test_unknown_languages_count_the_same() -> None:
    """Language 0 of the unknown has ten times the clips and is always accepted; language 1 never."""
    known = clips_of(np.log(np.full((4, 2), [0.7, 0.3])), np.array([0, 1, 0, 1]), "k")
    foreign = clips_of(np.log([[0.9, 0.1]] * 10 + [[0.6, 0.4]]), np.array([0] * 10 + [1]), "u")
    assert error_rates(detect(known, foreign), 0.65) == pytest.approx((0.0, 0.5))
