"""The model card that goes with the exported files: what the model is, how good, on what data, and what it is not for.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.exporting.compare import Compared
from stages.exporting.metadata import iso639_3, language_name
from stages.pipeline.errors import StorageError

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

EVALUATION, BY_LANGUAGE = Path("metrics/evaluate/metrics.json"), Path("metrics/evaluate/per_language.csv")
ROBUSTNESS = Path("metrics/robustness/table.csv")
HEADLINE = ("accuracy", "accuracy_low", "accuracy_high", "chance", "n_clips", "n_groups", "split")
SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "cavg": "Cavg",
    "eer": "equal error rate",
    "log_loss": "log loss, nats",
    "ece": "expected calibration error",
}


@dataclass(frozen=True)
class Scores:
    """What was measured: evaluate's metrics and its row for each language, robustness's row for each damage."""

    evaluation: dict[str, Any]
    by_language: dict[str, dict[str, str]]
    robustness: list[dict[str, str]]

    @property
    def headline(self) -> dict[str, Any]:
        """For the metadata."""
        return {key: self.evaluation[key] for key in HEADLINE}


def read_scores() -> Scores:
    """Robustness may be missing, as where its stage was never run.

    Raises
    ------
    StorageError
        There is no evaluation, or it cannot be read.
    """
    try:
        evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
        scores = Scores(
            evaluation,
            {row["language"]: row for row in _rows(BY_LANGUAGE)},
            _rows(ROBUSTNESS) if ROBUSTNESS.is_file() else [],
        )
        if missing := [key for key in HEADLINE if key not in scores.evaluation]:
            raise ValueError(f"expected {', '.join(missing)} in it")
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{EVALUATION.parent}: expected the scores of the model, for its card; {error}. Run `dvc repro evaluate`"
        ) from None
    return scores


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def model_card(
    settings: ModelSettings, more: dict[str, Any], scores: Scores, files: Sequence[Compared], dataset: str
) -> str:
    """The card as Markdown. more : the metadata that the settings don't know."""
    resize, logmel, evaluation = settings.features.resize, settings.features.logmel, scores.evaluation
    inside = (
        f"spectrogram ({logmel.n_mels} bands), image of {resize.height} x {resize.width} pixels, network, temperature"
    )
    licence = more["data_licence"] or "not stated; `export.data_licence` in params.yaml is where to state it"
    parts = [
        f"""# Spoken-language recogniser `{settings.architecture}`

Tells which of {len(settings.languages)} languages is spoken in a recording, from the sound alone.

## Model

| | |
|---|---|
| input | samples at {settings.features.resample.rate_hz} Hz, mono, in windows of {resize.window_seconds:g} s |
| output | a probability for each language; those of several windows are pooled by the mean of their logarithms |
| inside | {inside} |
| parameters | {settings.n_parameters:,} |
| made with | {", ".join(f"{name} {version}" for name, version in settings.versions.items())} |
| SHA-256 of the weights | `{more["weights_sha256"]}` |
""",
        _languages(settings, scores),
        f"""## Data

| | |
|---|---|
| corpus | `{dataset}` |
| licence | {licence} |
| trained on | {settings.n_clips:,} clips of {settings.n_groups:,} voices or sources |
| calibrated on | {settings.calibration} |
| tested on | {evaluation["n_clips"]:,} clips of {evaluation["n_groups"]:,} voices or sources |
| split | {settings.split_label} |
""",
        _scores(evaluation),
        _robustness(scores.robustness),
        _files(files),
        _limits(settings, evaluation),
    ]
    return "\n".join(part for part in parts if part)


def _languages(settings: ModelSettings, scores: Scores) -> str:
    lines = ["## Languages", "", "Recall on the test split, with its 95 % interval.", ""]
    lines += ["| label | ISO 639-3 | language | recall | clips |", "|---|---|---|---|---|"]
    for label in settings.languages:
        row = scores.by_language.get(label)
        recall = (
            f"{row['recall']} [{row['recall_low']}, {row['recall_high']}] | {row['n']}" if row else "not tested | 0"
        )
        lines.append(f"| {label} | {iso639_3(label) or '-'} | {language_name(label) or '-'} | {recall} |")
    if not all(iso639_3(label) for label in settings.languages):
        lines += ["", "Labels without a code are no language tags; they stand as the corpus has them."]
    return "\n".join(lines) + "\n"


def _scores(evaluation: dict[str, Any]) -> str:
    lines = ["## Scores", "", "On the test split, with 95 % intervals bootstrapped over voices or sources.", ""]
    lines += ["| | | 95 % interval |", "|---|---|---|"]
    for key, name in SCORES.items():
        if key in evaluation:
            low, high = evaluation.get(f"{key}_low"), evaluation.get(f"{key}_high")
            interval = "-" if low is None or high is None else f"{low:.4f} to {high:.4f}"
            lines.append(f"| {name} | {evaluation[key]:.4f} | {interval} |")
    for name, rung in evaluation.get("ladder", {}).items():
        if isinstance(rung, dict) and "accuracy" in rung and name != "model":
            interval = f"{rung['accuracy_low']:.4f} to {rung['accuracy_high']:.4f}" if "accuracy_low" in rung else "-"
            lines.append(
                f"| for comparison, accuracy of {name.replace('_', ' ')} | {rung['accuracy']:.4f} | {interval} |"
            )
    return "\n".join(lines) + "\n"


def _robustness(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return ""
    lines = ["## On damaged recordings", "", f"Accuracy on {rows[0]['n_clips']} of the test clips.", ""]
    lines += ["| | accuracy | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {row['condition']} | {row['accuracy']} | {row['accuracy_low']} to {row['accuracy_high']} |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def _files(files: Sequence[Compared]) -> str:
    lines = [
        "## Files",
        "",
        f"Each on the same {files[0].n_clips} test clips; `same` is the share of them that get the pipeline's answer,",
        "`distance` the largest difference of a probability from the pipeline's.",
        "",
        "| | MB | accuracy | 95 % interval | same | distance |",
        "|---|---|---|---|---|---|",
    ]
    for one in files:
        interval = f"{one.low:.4f} to {one.high:.4f}"
        size = f"{one.n_bytes / 1e6:.1f}"
        lines.append(f"| {one.name} | {size} | {one.accuracy:.4f} | {interval} | {one.same:.3f} | {one.distance:.3f} |")
    return "\n".join(lines) + "\n"


def _limits(settings: ModelSettings, evaluation: dict[str, Any]) -> str:
    unknown = (
        "It always answers with one of its languages, also when it hears another one, music or noise."
        if settings.unknown_threshold is None
        else f"A best probability below {settings.unknown_threshold:.3f} (`unknown_threshold`) means none of its "
        f"languages; this was fitted on {', '.join(settings.train.unknown_languages)}."
    )
    random = (
        "" if "random" not in str(evaluation["split"]) else
        "- Its test clips share voices or sources with its training clips: on others it will score lower than above.\n"
    )  # fmt: skip
    return f"""## Use and limits

For sorting recordings by language where a wrong answer does no harm. Not for decisions about people: an accent, a
dialect or a speech disorder may change the answer, and no score above says how often.

- {unknown}
- It knows the voices, rooms, microphones and codecs of its data. A score on other data is worth more than all above
  (`evaluate.extra_corpora`). Synthetic voices alone make no recogniser of real people.
- Short recordings are harder than the {settings.features.resize.window_seconds:g} s of a window.
{random}- Its probabilities were calibrated on recordings like those it was trained on, and hold for such ones.
"""
