"""The tables and pictures of the evaluate stage; what is in them stands in stages/evaluate.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.learning import metrics, plots
from stages.learning.metrics import Interval
from stages.learning.scoring import Scored
from stages.learning.unknown import Detection, error_curve, error_rates
from stages.pipeline.files import write_csv, write_json

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings
    from stages.pipeline.model_params import EvaluateParams

DIGITS = 4
WORST = 10
WORST_CLIPS = 20  # ids listed for each of them


def write_extra_predictions(extra: Mapping[str, Scored], folder: Path) -> None:
    """extra_predictions.csv: every clip of the extra corpora, by their names."""
    rows = [
        {
            "corpus": name, "id": clip.id, "group": clip.group, "actual": clip.language,
            "predicted": scored.languages[number], "probability": f"{p:.4f}",
        }
        for name, scored in extra.items()
        for clip, number, p in zip(scored.clips, scored.predicted, scored.sureness, strict=True)
    ]  # fmt: skip
    columns = ("corpus", "id", "group", "actual", "predicted", "probability")
    write_csv(folder / "extra_predictions.csv", columns, rows)


def write_detection(detection: Detection | None, settings: ModelSettings, folder: Path) -> None:
    """unknown.csv and unknown.png; without unknown languages an empty table and a picture that says so."""
    curve = error_curve(detection) if detection else None
    rows = [] if curve is None else [
        {"threshold": f"{t:.6f}", "refused_known": f"{refused:.6f}", "accepted_unknown": f"{accepted:.6f}"}
        for t, refused, accepted in zip(curve.threshold, curve.refused_known, curve.accepted_unknown, strict=True)
    ]  # fmt: skip
    write_csv(folder / "unknown.csv", ("threshold", "refused_known", "accepted_unknown"), rows)
    at = error_rates(detection, settings.unknown_threshold) if detection and settings.unknown_threshold else None
    plots.detection_picture(folder / "unknown.png", curve, at, settings.train.unknown_languages)


def write_tables(
    scored: Scored, as_trained: Scored, params: EvaluateParams, values: Mapping[str, Any], folder: Path
) -> None:
    """predictions, confusion, worst, per_language and reliability; `values` : the headline's."""
    languages, labels, predicted = list(scored.languages), scored.labels, scored.predicted
    names = np.array(languages)
    rows = [
        {
            "id": clip.id,
            "group": clip.group,
            "actual": clip.language,
            "predicted": says,
            "probability": f"{p:.4f}",
        }
        for clip, says, p in zip(scored.clips, names[predicted], scored.sureness, strict=True)
    ]
    write_csv(folder / "predictions.csv", ("id", "group", "actual", "predicted", "probability"), rows)
    pairs = [{"actual": row["actual"], "predicted": row["predicted"]} for row in rows]
    write_csv(folder / "confusion.csv", ("actual", "predicted"), pairs)

    title = f"test accuracy {values['accuracy']:.3f} [{values['accuracy_low']:.3f}, {values['accuracy_high']:.3f}]"
    counts = metrics.confusion_matrix(predicted, labels, len(languages))
    plots.confusion_picture(folder / "confusion.png", counts, languages, title)
    write_json(folder / "worst.json", worst_confusions(scored))

    scores = metrics.language_scores(predicted, labels, len(languages))
    intervals = [language_interval(scored, number, params) for number in range(len(languages))]
    columns = ("language", "recall", "recall_low", "recall_high", "precision", "f1", "n")
    table = [
        {
            "language": language,
            "recall": f"{score.recall:.4f}" if score.n else "",
            "recall_low": f"{interval.low:.4f}" if interval else "",
            "recall_high": f"{interval.high:.4f}" if interval else "",
            "precision": f"{score.precision:.4f}",
            "f1": f"{score.f1:.4f}" if score.n else "",
            "n": score.n,
        }
        for language, score, interval in zip(languages, scores, intervals, strict=True)
    ]
    write_csv(folder / "per_language.csv", columns, table)
    plots.language_picture(folder / "per_language.png", languages, scores, intervals, title)

    bins = metrics.reliability(scored.scores, labels, params.calibration_bins)
    bin_rows = [{name: f"{value:.4g}" for name, value in vars(b).items()} for b in bins]
    write_csv(folder / "reliability.csv", ("low", "high", "confidence", "accuracy", "n"), bin_rows)
    before = metrics.reliability(as_trained.scores, labels, params.calibration_bins)
    plots.reliability_picture(folder / "reliability.png", before, bins, "test split")


def language_interval(scored: Scored, number: int, params: EvaluateParams) -> Interval | None:
    """Of one language's recall; None where it has no clips here."""
    own = scored.labels == number
    if not own.any():
        return None
    right = (scored.predicted == scored.labels)[own]
    return metrics.bootstrap_accuracy(right, scored.groups[own], params.bootstrap_samples, params.seed)


def worst_confusions(scored: Scored) -> list[dict[str, object]]:
    """The commonest errors, most clips first: actual, predicted, how many, share of the language's clips, ids."""
    counts = metrics.confusion_matrix(scored.predicted, scored.labels, len(scored.languages))
    total = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = [(int(a), int(p)) for a, p in zip(*np.nonzero(counts), strict=True)]
    order.sort(key=lambda pair: (-counts[pair], pair))
    out: list[dict[str, object]] = []
    for actual, predicted in order[:WORST]:
        inside = (scored.labels == actual) & (scored.predicted == predicted)
        surest_first = sorted(
            np.flatnonzero(inside).tolist(), key=lambda i: (-scored.scores[i].max(), scored.clips[i].id)
        )
        out.append(
            {
                "actual": scored.languages[actual],
                "predicted": scored.languages[predicted],
                "n": int(counts[actual, predicted]),
                "share": round(float(counts[actual, predicted] / total[actual]), DIGITS),
                "clips": [scored.clips[i].id for i in surest_first[:WORST_CLIPS]],
            }
        )
    return out
