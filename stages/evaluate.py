"""Evaluate: the trained model on the test split -> metrics/evaluate.

metrics.json       the headline numbers; the accuracy's 95 % interval is bootstrapped over groups
predictions.csv    every clip: actual, predicted, probability
confusion.csv      actual,predicted for `dvc plots`; confusion.png is the same as a picture
per_language.csv   recall with interval, precision, F1; per_language.png
reliability.csv    how sure against how right; reliability.png
worst.json         the ten commonest confusions, with the ids of their clips
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.learning import metrics, plots
from stages.learning.dataset import Images, index_windows
from stages.learning.metrics import Interval
from stages.learning.model_file import MODEL, load_model
from stages.learning.scoring import predict_windows
from stages.pipeline.errors import SplitError
from stages.pipeline.files import write_atomically, write_csv, write_json
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.params import EvaluateParams, Params
from stages.pipeline.runner import stage_main

log = logging.getLogger(__name__)

FEATURES = Path("data/features")
FOLDER = Path("metrics/evaluate")
DIGITS = 4
WORST = 10
WORST_CLIPS = 20  # ids listed for each of them


@dataclass(frozen=True)
class Scored:
    """The test clips and what the model says of them.

    scores : (clips, languages) log-probabilities; labels, predicted : (clips,) numbers of languages
    """

    clips: Sequence[Row]
    languages: list[str]
    scores: np.ndarray
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        out: np.ndarray = self.scores.argmax(axis=1)
        return out

    @property
    def groups(self) -> np.ndarray:
        return np.array([clip.group for clip in self.clips])


def run(params: Params) -> None:
    model, settings = load_model(MODEL)
    languages = list(settings.languages)
    windows = index_windows(FEATURES, read_manifest(), languages, "test")
    if not len(windows):
        raise SplitError(
            "expected test clips, found none in the manifest that came through the stages; raise "
            "manifest.test_fraction, or add recordings of more speakers or sources"
        )
    images = Images(windows, memory_gb=0)  # each is read once
    probabilities = predict_windows(model, images, params.evaluate.batch_size)
    scores = metrics.pool_windows(probabilities, windows.clip, len(windows.clips))
    labels = np.zeros(len(windows.clips), np.int64)
    labels[windows.clip] = windows.label
    scored = Scored(windows.clips, languages, metrics.temper(scores, settings.temperature), labels)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    values, interval = headline(scored, params.evaluate, settings.split_label)
    write_json(FOLDER / "metrics.json", values)
    write_tables(scored, params.evaluate, values)
    lines = closing_lines(values, interval, languages)
    with write_atomically(FOLDER / "summary.txt") as handle:
        handle.write("\n".join(lines) + "\n")
    for line in lines:
        log.info("%s", line)


def headline(
    scored: Scored, params: EvaluateParams, split_label: str
) -> tuple[dict[str, float | int | str | None], Interval]:
    """metrics.json, and the accuracy's interval. A score that two languages are needed for is null with only one."""
    right: np.ndarray = scored.predicted == scored.labels
    interval = metrics.bootstrap_accuracy(right, scored.groups, params.bootstrap_samples, params.seed)
    actual, lowest = metrics.cavg(scored.scores, scored.labels)
    numbers = {
        "accuracy": metrics.accuracy(scored.scores, scored.labels),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "macro_f1": metrics.macro_f1(scored.predicted, scored.labels, len(scored.languages)),
        "top3": metrics.top_k(scored.scores, scored.labels, 3),
        "log_loss": metrics.log_loss(scored.scores, scored.labels),
        "ece": metrics.ece(scored.scores, scored.labels, params.calibration_bins),
        "eer": metrics.eer(scored.scores, scored.labels),
        "cavg": actual,
        "cavg_min": lowest,
    }
    values: dict[str, float | int | str | None] = {
        name: round(value, DIGITS) if np.isfinite(value) else None for name, value in numbers.items()
    }
    if interval.over == "clips":
        split_label += "; one group only: the interval is over its clips"
    return values | {
        "n_clips": len(right),
        "n_groups": len(set(scored.groups)),
        "split": split_label,
    }, interval


def write_tables(scored: Scored, params: EvaluateParams, values: dict[str, float | int | str | None]) -> None:
    languages, labels, predicted = scored.languages, scored.labels, scored.predicted
    names = np.array(languages)
    sure = np.exp(scored.scores.max(axis=1))
    rows = [
        {
            "id": clip.id,
            "group": clip.group,
            "actual": clip.language,
            "predicted": says,
            "probability": f"{p:.4f}",
        }
        for clip, says, p in zip(scored.clips, names[predicted], sure, strict=True)
    ]
    write_csv(FOLDER / "predictions.csv", ("id", "group", "actual", "predicted", "probability"), rows)
    pairs = [{"actual": row["actual"], "predicted": row["predicted"]} for row in rows]
    write_csv(FOLDER / "confusion.csv", ("actual", "predicted"), pairs)

    title = f"test accuracy {values['accuracy']:.3f} [{values['accuracy_low']:.3f}, {values['accuracy_high']:.3f}]"
    counts = metrics.confusion_matrix(predicted, labels, len(languages))
    plots.confusion_picture(FOLDER / "confusion.png", counts, languages, title)
    write_json(FOLDER / "worst.json", worst_confusions(scored))

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
    write_csv(FOLDER / "per_language.csv", columns, table)
    plots.language_picture(FOLDER / "per_language.png", languages, scores, intervals, title)

    bins = metrics.reliability(scored.scores, labels, params.calibration_bins)
    bin_rows = [{name: f"{value:.4g}" for name, value in vars(b).items()} for b in bins]
    write_csv(FOLDER / "reliability.csv", ("low", "high", "confidence", "accuracy", "n"), bin_rows)
    plots.reliability_picture(
        FOLDER / "reliability.png",
        bins,
        metrics.ece(scored.scores, labels, params.calibration_bins),
        "test split",
    )


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


def closing_lines(values: dict[str, float | int | str | None], interval: Interval, languages: list[str]) -> list[str]:
    """What a person wants to know, in a box."""
    lines = [
        f"test accuracy {values['accuracy']:.4f}, 95 % interval {interval.low:.4f} to {interval.high:.4f}, "
        f"chance {1 / len(languages):.4f} ({len(languages)} languages)",
        f"{values['n_clips']} clips of {values['n_groups']} groups; {values['split']}",
    ]
    width = max(map(len, lines))
    rule = "+-" + "-" * width + "-+"
    return [rule, *(f"| {line.ljust(width)} |" for line in lines), rule]


if __name__ == "__main__":
    sys.exit(stage_main("evaluate"))
