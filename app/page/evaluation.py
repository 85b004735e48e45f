"""metrics/evaluate and its neighbours as the evaluation page shows them: read anew for each visit, nothing computed."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.pipeline.errors import RejectedClip, StorageError

EVALUATE = Path("metrics/evaluate")
MOST_LANGUAGES = 40  # a confusion matrix with more is shown as a picture only
PICTURES = {
    "confusion": EVALUATE / "confusion.png",
    "reliability": EVALUATE / "reliability.png",
    "unknown": EVALUATE / "unknown.png",
    "robustness": Path("metrics/robustness/robustness.png"),
    "audit": Path("metrics/audit/probes.png"),
}
RESAMPLED = Path("data/resampled")
MANIFEST = Path("data/manifest.csv")
_CLIP_ID = re.compile(r"[0-9a-f]{16}")
_SHARD = re.compile(r"[0-9a-z]{1,32}")
_RUNGS = {
    "chance": "Chance",
    "majority": "Always the commonest language",
    "mel_lda": "Average sound alone (linear discriminant)",
    "article": "The 2017 article's network",
    "model": "This model",
}
_SCORES = {
    "macro_f1": ("Macro-F1", "the mean of the languages' F1; 1 is best"),
    "top3": ("Among the first three", "share of the clips whose language is one of the three most probable"),
    "ece": ("Calibration error", "how far the probabilities are from how often they are right; 0 is best"),
    "log_loss": ("Log loss", "what wrong and unsure answers cost, in nats; 0 is best"),
    "eer": ("Equal error rate", "errors of both kinds where they are equally common; 0 is best"),
    "cavg": ("Cavg", "NIST's mean cost of detecting each language; 0 is best"),
}


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval; low and high are None where there is none."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def read_evaluation() -> dict[str, Any] | None:
    """Everything that the page shows, or None where nothing was evaluated yet.

    Raises
    ------
    StorageError
        A file of it cannot be read.
    """
    try:
        values = json.loads((EVALUATE / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(EVALUATE / "metrics.json", error) from None
    try:
        predictions = {row["id"]: row for row in _table(EVALUATE / "predictions.csv")}
        return {
            "headline": _score("Test accuracy", values, "accuracy"),
            "chance": values["chance"],
            "n_clips": values["n_clips"],
            "n_groups": values["n_groups"],
            "n_languages": values["n_languages"],
            "split": values["split"],
            "ladder": _ladder(values),
            "scores": [
                found for name, (label, note) in _SCORES.items() if (found := _score(label, values, name, note))
            ],
            "calibrated_on": values.get("calibrated_on", ""),
            "extra": [_extra(name, found) for name, found in values.get("extra_corpora", {}).items()],
            "confusion": _confusion(),
            "languages": _languages(),
            "mistakes": _mistakes(predictions),
            "audit": _text(Path("metrics/audit/verdict.txt")),
            "robustness": _robustness(),
            "pictures": {name for name, path in PICTURES.items() if path.is_file()}
            - (set() if "unknown" in values else {"unknown"}),
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _damaged(EVALUATE, error) from None


def _damaged(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"{path} cannot be read as the evaluate stage of this version writes it ({type(error).__name__}: {error}); "
        "run `dvc repro evaluate`"
    )


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _score(label: str, values: dict[str, Any], name: str, note: str = "") -> Score | None:
    value = values.get(name)
    return None if value is None else Score(label, value, values.get(f"{name}_low"), values.get(f"{name}_high"), note)


def _ladder(values: dict[str, Any]) -> list[Score]:
    rungs = values.get("ladder", {})
    return [found for name, label in _RUNGS.items() if (found := _score(label, rungs.get(name, {}), "accuracy"))]


def _extra(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """One of evaluate.extra_corpora: never trained on."""
    return {
        "name": name,
        "open": _score("Of all languages of the model", values, "accuracy"),
        "closed": _score("Among its own languages", values, "closed_accuracy"),
        "n_clips": values["n_clips"],
        "n_groups": values["n_groups"],
    }


def _confusion() -> dict[str, Any]:
    """Rows are what was spoken; `shade` is the share of the row's clips in tenths, for the colour."""
    counts = Counter((row["actual"], row["predicted"]) for row in _table(EVALUATE / "confusion.csv"))
    names = sorted({name for pair in counts for name in pair})
    if len(names) > MOST_LANGUAGES:
        return {"names": names, "rows": []}
    rows = []
    for actual in names:
        total = sum(counts[actual, predicted] for predicted in names)
        cells = [
            {"predicted": predicted, "n": n, "shade": -(-10 * n // total) if total else 0}
            for predicted in names
            for n in [counts[actual, predicted]]
        ]
        rows.append({"actual": actual, "total": total, "cells": cells})
    return {"names": names, "rows": rows}


def _languages() -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for row in _table(EVALUATE / "per_language.csv"):
        number = {name: float(text) if text else None for name, text in row.items() if name != "language"}
        recall = number["recall"]
        score = None if recall is None else Score("", recall, number["recall_low"], number["recall_high"])
        out.append(
            {"language": row["language"], "recall": score, "precision": number["precision"], "f1": number["f1"],
             "n": int(row["n"])}
        )  # fmt: skip
    return out


def _mistakes(predictions: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """worst.json with what the model said of each clip."""
    with (EVALUATE / "worst.json").open(encoding="utf-8") as handle:
        worst = json.load(handle)
    return [
        {
            **one,
            "clips": [
                {"id": clip, "group": row["group"], "probability": float(row["probability"])}
                for clip in one["clips"]
                if (row := predictions.get(clip))
            ],
        }
        for one in worst
    ]


def _robustness() -> list[dict[str, Any]]:
    path = Path("metrics/robustness/table.csv")
    if not path.is_file():
        return []
    return [
        {
            "damage": row["damage"],
            "score": Score(
                row["condition"], float(row["accuracy"]), float(row["accuracy_low"]), float(row["accuracy_high"])
            ),
        }
        for row in _table(path)
        if row["accuracy"]
    ]


def clip_as_wav(clip: str) -> bytes:
    """A clip of the last evaluation as the model hears it: mono, 16 bit, from data/resampled.

    No path comes into it: the id must be one that evaluate has scored, and the manifest names its shard. Recordings in
    archives and in formats that no browser plays are served like all others.

    Raises
    ------
    RejectedClip
        missing: there is no such clip, or its sound is not here.
    StorageError
        A file cannot be read.
    """
    from stages.pipeline.manifest_table import read_manifest
    from stages.pipeline.shards import Shard

    if not _CLIP_ID.fullmatch(clip):
        raise RejectedClip("missing", "no clip has such a name")
    try:
        scored = any(row["id"] == clip for row in _table(EVALUATE / "predictions.csv"))
    except (OSError, KeyError, ValueError, csv.Error):
        scored = False
    if not scored:
        raise RejectedClip("missing", "the last evaluation has no such clip")
    names = [row.shard for row in read_manifest(MANIFEST) if row.id == clip]
    path = RESAMPLED / f"{names[0]}.h5" if names and _SHARD.fullmatch(names[0]) else None
    if path is None or not path.is_file():
        raise RejectedClip("missing", "its sound is not here; run `dvc checkout data/resampled`, or `dvc repro`")
    with Shard(path) as shard:
        if clip not in shard.ids:
            raise RejectedClip("missing", "its sound is not here; run `dvc repro`")
        number = shard.ids.index(clip)
        return _wav(shard.clip(number), round(float(shard.rates_hz[number])))


def _wav(samples: np.ndarray, rate_hz: int) -> bytes:
    import io
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(rate_hz)
        handle.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()
