"""Evaluate: the trained model on the test split -> metrics/evaluate.

metrics.json       the headline numbers, each with its 95 % interval, bootstrapped over groups
predictions.csv    every clip: actual, predicted, probability; extra_predictions.csv those of evaluate.extra_corpora
confusion.csv      actual,predicted for `dvc plots`; confusion.png is the same as a picture
per_language.csv   recall with interval, precision, F1; per_language.png
reliability.csv    how sure against how right; reliability.png, before and after calibration
unknown.csv        the errors at each threshold for the answer `unknown`; unknown.png
worst.json         the ten commonest confusions, with the ids of their clips

How to read them: docs/evaluation.md.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.learning import metrics
from stages.learning.baselines import majority_right, mel_lda_right
from stages.learning.cross_corpus import ExtraCorpus, read_extra_corpus
from stages.learning.dataset import index_windows
from stages.learning.intervals import interval, mean_of, scores_of, threshold_intervals
from stages.learning.metrics import Interval
from stages.learning.model_file import ARTICLE, CALIBRATED, SETTINGS_NAME, ModelSettings, load_model
from stages.learning.score_tables import write_detection, write_extra_predictions, write_tables
from stages.learning.scoring import Scored, score_clips
from stages.learning.unknown import Detection, detect, detection_scores
from stages.pipeline.errors import SplitError
from stages.pipeline.files import write_atomically, write_json
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.model_params import EvaluateParams
from stages.pipeline.params import Params
from stages.pipeline.stage_main import stage_main

log = logging.getLogger(__name__)

FEATURES = Path("data/features")
EXTRA = Path("data/extra")
FOLDER = Path("metrics/evaluate")
DIGITS = 4
NO_INTERVAL = Interval(float("nan"), float("nan"), "")


Values = dict[str, Any]


def run(params: Params) -> None:
    model, settings = load_model(CALIBRATED)
    rows, strangers = read_manifest(), settings.train.unknown_languages
    known = [row for row in rows if row.language not in strangers]
    windows = index_windows(FEATURES, known, settings.languages, "test")
    if not len(windows):
        raise SplitError(
            "expected test clips, found none in the manifest that came through the stages; raise "
            "manifest.test_fraction, or add recordings of more speakers or sources"
        )
    as_trained = score_clips(model, windows, settings.languages, params.evaluate.batch_size)
    scored = as_trained.tempered(settings.temperature)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    values = headline(scored, as_trained, settings, params.evaluate)
    training = index_windows(FEATURES, known, settings.languages, "train")
    answers = {"majority": majority_right(training, scored), "mel_lda": mel_lda_right(training, windows)}
    if (ARTICLE / SETTINGS_NAME).is_file():
        network, its_settings = load_model(ARTICLE)
        article = score_clips(network, windows, its_settings.languages, params.evaluate.batch_size)
        answers["article"] = article.predicted == article.labels
    values["ladder"] = ladder(scored, answers, params.evaluate)
    detection = None
    if strangers and settings.unknown_threshold is not None:
        foreign = index_windows(FEATURES, [row for row in rows if row.language in strangers], strangers, "test")
        if not len(foreign):
            raise SplitError(
                f"train.unknown_languages: expected test clips of {', '.join(strangers)}, found none; raise "
                "manifest.test_fraction or name other languages"
            )
        other = score_clips(model, foreign, settings.languages, params.evaluate.batch_size)
        detection = detect(scored, other.tempered(settings.temperature))
        values["unknown"] = unknown_scores(detection, scored, settings.unknown_threshold, params.evaluate)
    extra = {
        name: read_extra_corpus(
            EXTRA / name, model, settings.languages, settings.temperature, rows, params.evaluate.batch_size
        )
        for name in params.evaluate.extra_corpora
    }
    if extra:
        values["extra_corpora"] = {name: extra_scores(corpus, params.evaluate) for name, corpus in extra.items()}
    write_json(FOLDER / "metrics.json", values)
    write_extra_predictions({name: corpus.scored for name, corpus in extra.items()}, FOLDER)
    write_tables(scored, as_trained, params.evaluate, values, FOLDER)
    write_detection(detection, settings, FOLDER)
    lines = closing_lines(values)
    with write_atomically(FOLDER / "summary.txt") as handle:
        handle.write("\n".join(lines) + "\n")
    for line in lines:
        log.info("%s", line)


def rounded(value: float) -> float | None:
    """For metrics.json: a score that two languages are needed for is null with only one."""
    return round(value, DIGITS) if np.isfinite(value) else None


def with_interval(name: str, value: float, interval: Interval) -> Values:
    return {name: rounded(value), f"{name}_low": rounded(interval.low), f"{name}_high": rounded(interval.high)}


def headline(scored: Scored, as_trained: Scored, settings: ModelSettings, params: EvaluateParams) -> Values:
    """metrics.json. `_before` is before calibration."""
    scores, labels, bins = scored.scores, scored.labels, params.calibration_bins
    actual, lowest = metrics.cavg(scores, labels)
    numbers = {
        "accuracy": metrics.accuracy(scores, labels),
        "macro_f1": metrics.macro_f1(scored.predicted, labels, len(scored.languages)),
        "top3": metrics.top_k(scores, labels, 3),
        "log_loss": metrics.log_loss(scores, labels),
        "log_loss_before": metrics.log_loss(as_trained.scores, labels),
        "ece": metrics.ece(scores, labels, bins),
        "ece_before": metrics.ece(as_trained.scores, labels, bins),
        "eer": metrics.eer(scores, labels),
        "cavg": actual,
        "cavg_min": lowest,
    }
    by_sums = scores_of(scores, labels, bins)
    before = scores_of(as_trained.scores, labels, bins)
    by_sums |= {f"{name}_before": before[name] for name in ("log_loss", "ece")}
    draws = (scored.groups, params.bootstrap_samples, params.seed)
    intervals = interval(by_sums, *draws) | threshold_intervals(scores, labels, *draws)
    values: Values = {}
    for name, value in numbers.items():
        values |= with_interval(name, value, intervals.get(name, NO_INTERVAL))
    split_label = settings.split_label
    if intervals["accuracy"].over == "clips":
        split_label += "; one group only: the interval is over its clips"
    return values | {
        "temperature": rounded(settings.temperature),
        "calibrated_on": settings.calibration,
        "chance": rounded(1 / len(scored.languages)),
        "n_clips": len(labels),
        "n_groups": len(set(scored.groups)),
        "n_languages": len(scored.languages),
        "split": split_label,
    }


def ladder(scored: Scored, answers: dict[str, np.ndarray], params: EvaluateParams) -> Values:
    """The same test clips answered by less; `above_...` is how much more the model scores, on the same draws.

    answers : rung -> (clips,) bool, whether it names the clip's language
    """
    right = answers | {"model": scored.predicted == scored.labels}
    columns = {name: mean_of(found.astype(float)) for name, found in right.items()}
    above = {
        f"above_{name}": right["model"].astype(float) - answers[name]
        for name in ("mel_lda", "article")
        if name in answers
    }
    columns |= {name: mean_of(difference) for name, difference in above.items()}
    found = interval(columns, scored.groups, params.bootstrap_samples, params.seed)
    values: Values = {"chance": {"accuracy": rounded(1 / len(scored.languages))}}
    values |= {name: with_interval("accuracy", float(of.mean()), found[name]) for name, of in right.items()}
    for name, difference in above.items():
        values |= with_interval(name, float(difference.mean()), found[name])
    return values


def unknown_scores(detection: Detection, scored: Scored, threshold: float, params: EvaluateParams) -> Values:
    """How well known languages are told from unknown ones; `right_and_accepted` is the share of the known clips."""
    scores = detection_scores(detection, threshold, params.bootstrap_samples, params.seed)
    right = (scored.predicted == scored.labels) & (scored.sureness >= threshold)
    answered = metrics.bootstrap_accuracy(right, scored.groups, params.bootstrap_samples, params.seed)
    values = with_interval("right_and_accepted", float(right.mean()), answered)
    for name, (value, found) in scores.items():
        values |= with_interval(name, value, found)
    foreign_groups = set(detection.groups[~detection.known])
    return values | {
        "threshold": rounded(threshold),
        "n_clips": int((~detection.known).sum()),
        "n_groups": len(foreign_groups),
    }


def extra_scores(corpus: ExtraCorpus, params: EvaluateParams) -> Values:
    """Of one corpus: open and closed set, each beside its chance. With one language only, closed would say nothing."""
    scored, present = corpus.scored, corpus.present
    columns = {
        "accuracy": mean_of(corpus.right.astype(float)),
        "closed": mean_of(corpus.right_closed.astype(float)),
        "ece": scores_of(scored.scores, scored.labels, params.calibration_bins)["ece"],
    }
    found = interval(columns, scored.groups, params.bootstrap_samples, params.seed)
    values = with_interval("accuracy", float(corpus.right.mean()), found["accuracy"])
    values["chance"] = rounded(1 / len(scored.languages))
    values |= with_interval("ece", metrics.ece(scored.scores, scored.labels, params.calibration_bins), found["ece"])
    if len(present) > 1:
        values |= with_interval("closed_accuracy", float(corpus.right_closed.mean()), found["closed"])
        values["closed_chance"] = rounded(1 / len(present))
    return values | {
        "languages": " ".join(scored.languages[number] for number in present),
        "interval_over": found["accuracy"].over,
        "n_clips": len(scored.labels),
        "n_groups": len(set(scored.groups)),
        "n_heard_in_training": corpus.n_heard,
        "n_in_other_languages": corpus.n_foreign,
    }


def closing_lines(values: Values) -> list[str]:
    """What a person wants to know, in a box."""
    lines = [
        f"test accuracy {values['accuracy']:.4f}, 95 % interval {values['accuracy_low']:.4f} to "
        f"{values['accuracy_high']:.4f}, chance {values['chance']:.4f} ({values['n_languages']} languages)",
        f"{values['n_clips']} clips of {values['n_groups']} groups; {values['split']}",
        f"calibration error {values['ece']:.3f} ({values['ece_before']:.3f} before); temperature "
        f"{values['temperature']:.3f}, fitted on {values['calibrated_on']}",
    ]
    rungs = values["ladder"]
    lda = rungs["mel_lda"]
    lines.append(
        f"baselines: majority {rungs['majority']['accuracy']:.4f}; discriminant on mel statistics "
        f"{lda['accuracy']:.4f}, {lda['accuracy_low']:.4f} to {lda['accuracy_high']:.4f}"
        + (
            f"; the 2017 article's network {article['accuracy']:.4f}, {article['accuracy_low']:.4f} to "
            f"{article['accuracy_high']:.4f}"
            if (article := rungs.get("article"))
            else ""
        )
    )
    for name, found in values.get("extra_corpora", {}).items():
        closed = (
            f"; among its own {len(found['languages'].split())} languages {found['closed_accuracy']:.4f}, "
            f"{found['closed_accuracy_low']:.4f} to {found['closed_accuracy_high']:.4f}, "
            f"chance {found['closed_chance']:.4f}"
            if "closed_accuracy" in found
            else ""
        )
        lines.append(
            f"{name}, never in training: {found['accuracy']:.4f}, {found['accuracy_low']:.4f} to "
            f"{found['accuracy_high']:.4f}{closed} ({found['n_clips']} clips, {found['n_groups']} groups)"
        )
    if "unknown" in values:
        found = values["unknown"]
        lines.append(
            f"unknown languages: {found['accepted_unknown']:.1%} taken for known, {found['refused_known']:.1%} of the "
            f"known refused; AUROC {found['auroc']:.3f} [{found['auroc_low']:.3f}, {found['auroc_high']:.3f}]"
        )
    width = max(map(len, lines))
    rule = "+-" + "-" * width + "-+"
    return [rule, *(f"| {line.ljust(width)} |" for line in lines), rule]


if __name__ == "__main__":
    sys.exit(stage_main("evaluate"))
