"""Robustness: the trained model on test clips that were cut, coded or drowned in noise -> metrics/robustness.

metrics.json     accuracy under each condition and of the undamaged clips
table.csv        the same with 95 % intervals, the number of clips and of those left out
robustness.png   the same as curves

The clips' samples are damaged as data/resampled holds them and go through the functions of the logmel and resize
stages, with the settings that the model was trained with, to the network that evaluate scored. docs/robustness.md says
what exactly is done to them.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.damage.codecs import check_encoders
from stages.damage.conditions import Damaged, Task, choose_voices, conditions_of, images_of
from stages.damage.picture import robustness_picture
from stages.damage.scores import Score, score_conditions
from stages.learning.metrics import pool_windows
from stages.learning.model_file import CALIBRATED, ModelSettings, load_model
from stages.learning.sound_clips import SOUND, choose, find_clips, labels_of
from stages.pipeline.backends import run_tasks_here
from stages.pipeline.ffmpeg_pipe import find_ffmpeg
from stages.pipeline.files import write_csv, write_json
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.params import Params
from stages.pipeline.stage_main import stage_main

log = logging.getLogger(__name__)

FOLDER = Path("metrics/robustness")
COLUMNS = (
    "condition", "damage", "setting", "accuracy", "accuracy_low", "accuracy_high", "undamaged", "n_clips", "n_groups",
    "left_out",
)  # fmt: skip
DIGITS = 4
CLIPS_PER_TASK = 10  # share a process of ffmpeg
WINDOWS_AT_ONCE = 64


def run(params: Params) -> None:
    wanted = params.robustness
    ffmpeg = ""
    if wanted.codecs:
        ffmpeg = find_ffmpeg(params.decode.ffmpeg)
        check_encoders(wanted.codecs, ffmpeg)
    network, settings = load_model(CALIBRATED)
    known = [row for row in read_manifest() if row.language not in settings.train.unknown_languages]
    clips = choose(find_clips(SOUND, known), wanted.max_clips, wanted.seed)
    labels = labels_of(clips, settings.languages)
    voices = choose_voices(clips, wanted.seed)
    conditions = conditions_of(wanted, has_babble=any(voices))
    log.info("%d clips under %d conditions", len(clips), len(conditions))
    logmel, resize = settings.features.logmel, settings.features.resize
    tasks = [
        Task(first, tuple(clips[part]), tuple(voices[part]), conditions, wanted.seed, logmel, resize, ffmpeg)
        for first in range(0, len(clips), CLIPS_PER_TASK)
        for part in (slice(first, first + CLIPS_PER_TASK),)
    ]
    right = np.full((len(conditions), len(clips)), np.nan)
    for damaged in run_tasks_here(images_of, tasks, params.execution, few=len(tasks) < 2):
        mark(right, damaged, predict(network, damaged.images), labels)
    for condition, row in zip(conditions, right, strict=True):
        if np.isnan(row).all():
            log.warning("%s: none of the clips is so long, so this is left out", condition)
    scores = score_conditions(right, conditions, clips, params.evaluate.bootstrap_samples, wanted.seed)
    write_folder(FOLDER, scores, settings)
    for line in lines_of(scores):
        log.info("%s", line)


def predict(network: Any, images: np.ndarray) -> np.ndarray:
    """(windows, height, width, 1) uint8 -> (windows, languages) probabilities."""
    return np.concatenate(
        [
            network.predict_on_batch(images[first : first + WINDOWS_AT_ONCE].astype(np.float32))
            for first in range(0, len(images), WINDOWS_AT_ONCE)
        ]
    )


def mark(right: np.ndarray, damaged: Damaged, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Enter 1 or 0 into `right`, (conditions, clips), for all that was damaged."""
    places, number = np.unique(np.stack([damaged.condition, damaged.clip]), axis=1, return_inverse=True)
    condition, clip = places
    best = pool_windows(probabilities, number.reshape(-1), len(clip)).argmax(axis=1)
    right[condition, clip] = best == labels[clip]


def write_folder(folder: Path, scores: Sequence[Score], settings: ModelSettings) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = 1 / len(settings.languages)
    values: dict[str, Any] = {"split": settings.split_label, "chance": round(chance, DIGITS)}
    values |= {"n_clips": scores[0].n_clips, "n_groups": scores[0].n_groups}
    for score in scores:
        damage, setting = score.condition
        if setting:
            values.setdefault(damage, {})[setting] = round(score.accuracy, DIGITS)
        else:
            values[damage] = round(score.accuracy, DIGITS)
    write_json(folder / "metrics.json", values)
    rows = [
        {
            "condition": str(score.condition),
            "damage": score.condition.damage,
            "setting": score.condition.setting,
            "accuracy": f"{score.accuracy:.4f}",
            "accuracy_low": f"{score.low:.4f}",
            "accuracy_high": f"{score.high:.4f}",
            "undamaged": f"{score.undamaged:.4f}",
            "n_clips": score.n_clips,
            "n_groups": score.n_groups,
            "left_out": score.left_out,
        }
        for score in scores
    ]
    write_csv(folder / "table.csv", COLUMNS, rows)
    title = f"{scores[0].n_clips} test clips of {scores[0].n_groups} groups; {settings.split_label}"
    robustness_picture(folder / "robustness.png", scores, chance, title)


def lines_of(scores: Sequence[Score]) -> list[str]:
    """The table for a person."""
    width = max(len(str(score.condition)) for score in scores)
    return [
        f"{str(score.condition).ljust(width)}  accuracy {score.accuracy:.3f}  95 % interval {score.low:.3f} to "
        f"{score.high:.3f}" + (f"  ({score.left_out} clips left out)" if score.left_out else "")
        for score in scores
    ]


if __name__ == "__main__":
    sys.exit(stage_main("robustness"))
