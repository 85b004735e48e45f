"""Calibrate: the trained model -> models/calibrated, the same weights and a temperature fitted on the validation split.

Where `train.unknown_languages` names languages, their validation clips also fit the threshold below which an answer is
"unknown". What was fitted, and what it did to the clips that it was fitted on, is in metrics/calibrate/metrics.json;
what it does to clips that nothing was fitted on is the evaluate stage's to say.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.learning import metrics
from stages.learning.calibration import fit_temperature
from stages.learning.dataset import index_windows
from stages.learning.model_file import CALIBRATED, MODEL, ModelSettings, copy_model, load_model
from stages.learning.scoring import score_clips
from stages.learning.unknown import detect, equal_error_threshold, error_curve
from stages.pipeline.errors import SplitError
from stages.pipeline.files import write_json
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.model_params import EvaluateParams
from stages.pipeline.params import Params
from stages.pipeline.stage_main import stage_main

log = logging.getLogger(__name__)

FEATURES = Path("data/features")
METRICS = Path("metrics/calibrate/metrics.json")
NOT_CALIBRATED = "none: there is no validation split"
DIGITS = 4


@dataclass(frozen=True)
class Fitted:
    """temperature, threshold : for model.json; on : what they were fitted on; values : metrics.json."""

    temperature: float
    threshold: float | None
    on: str
    values: dict[str, float | int | str]


def run(params: Params) -> None:
    network, settings = load_model(MODEL)
    fitted = fit(network, settings, read_manifest(), params.evaluate)
    new = settings.model_copy(
        update={
            "temperature": fitted.temperature,
            "unknown_threshold": fitted.threshold,
            "calibration": fitted.on,
        }
    )
    copy_model(MODEL, CALIBRATED, new, calibration_card(fitted))
    write_json(METRICS, fitted.values)
    values = fitted.values
    log.info("temperature %.3f, fitted on %s", fitted.temperature, fitted.on)
    if values["n_clips"]:
        log.info(
            "validation log loss %s -> %s, calibration error %s -> %s",
            values["log_loss_before"], values["log_loss"], values["ece_before"], values["ece"],
        )  # fmt: skip
    if fitted.threshold is not None:
        log.info(
            "below a probability of %.3f the answer is `unknown`: equal error rate %s on the validation split",
            fitted.threshold, values["unknown_eer"],
        )  # fmt: skip


def fit(network: Any, settings: ModelSettings, rows: list[Row], params: EvaluateParams) -> Fitted:
    """Fit what the validation split allows.

    Raises
    ------
    SplitError
        There are unknown languages, but no validation clips of them or of the model's own languages.
    """
    strangers = settings.train.unknown_languages
    known = index_windows(FEATURES, [row for row in rows if row.language not in strangers], settings.languages,
                          "validation")  # fmt: skip
    foreign = index_windows(FEATURES, [row for row in rows if row.language in strangers], strangers, "validation")
    if strangers and not (len(known) and len(foreign)):
        raise SplitError(
            "train.unknown_languages: expected validation clips of the model's languages and of "
            f"{', '.join(strangers)}, to fit the threshold between them; received {len(known.clips)} and "
            f"{len(foreign.clips)}. Raise manifest.validation_fraction, name other languages, or none"
        )
    if not len(known):
        return Fitted(1.0, None, NOT_CALIBRATED, {"temperature": 1.0, "n_clips": 0, "fitted_on": NOT_CALIBRATED})
    as_trained = score_clips(network, known, settings.languages, params.batch_size)
    labels, groups = as_trained.labels, as_trained.groups
    temperature = fit_temperature(as_trained.scores, labels, groups, params.bootstrap_samples, params.seed)
    calibrated = as_trained.tempered(temperature.value)
    on = f"{len(labels)} validation clips of {len(set(groups))} groups"
    bins = params.calibration_bins
    numbers = {
        "temperature": temperature.value,
        "temperature_low": temperature.interval.low,
        "temperature_high": temperature.interval.high,
        "log_loss_before": metrics.log_loss(as_trained.scores, labels),
        "log_loss": metrics.log_loss(calibrated.scores, labels),
        "ece_before": metrics.ece(as_trained.scores, labels, bins),
        "ece": metrics.ece(calibrated.scores, labels, bins),
    }
    counts: dict[str, int | str] = {"n_clips": len(labels), "n_groups": len(set(groups)), "fitted_on": on}
    threshold = None
    if strangers:
        other = score_clips(network, foreign, settings.languages, params.batch_size).tempered(temperature.value)
        detection = detect(calibrated, other)
        threshold = equal_error_threshold(detection)
        numbers |= {"unknown_threshold": threshold, "unknown_eer": error_curve(detection).eer}
        counts |= {"unknown_clips": len(other.labels), "unknown_groups": len(set(other.groups))}
        on += f", and {len(other.labels)} of {', '.join(strangers)}"
    rounded = {name: round(value, DIGITS) for name, value in numbers.items()}
    return Fitted(temperature.value, threshold, on, rounded | counts)


def calibration_card(fitted: Fitted) -> str:
    """What is added to the model's card."""
    unknown = (
        "It always answers with one of its languages, also when it hears another one, music or noise."
        if fitted.threshold is None
        else f"Where the best probability is below {fitted.threshold:.3f}, the answer is `unknown`."
    )
    return f"""
## Calibration

Fitted on {fitted.on}. Log-probabilities are divided by a temperature of {fitted.temperature:.3f}.
{unknown}
"""


if __name__ == "__main__":
    sys.exit(stage_main("calibrate"))
