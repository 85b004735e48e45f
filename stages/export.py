"""Export: the trained model -> models/export, files that take sound and run without this repository.

    model.onnx, model.float16.onnx, model.int8.onnx            onnxruntime; app/ takes the first
    model.tflite, model.float16.tflite, model.int8.tflite      LiteRT
    saved_model/                                               TensorFlow
    MODEL_CARD.md                                              what it is, for people
    metrics/export/table.csv                                   accuracy, size and distance from the pipeline of each

Nothing is kept before it was compared with the pipeline: the same real test clips, and made-up sounds of other lengths,
go through the data stages' functions and the Keras network on one side and through each file on the other. The stage
fails where a float32 file's probability is further off than `TOLERANCE`; what smaller ones lose stands in the table.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.exporting.card import model_card, read_scores
from stages.exporting.compare import (
    Compared,
    Runner,
    compared,
    distance,
    exported_scores,
    litert_runner,
    onnx_runner,
    pipeline_scores,
    saved_model_runner,
    sound_of,
    windows_of,
)
from stages.exporting.metadata import metadata_of
from stages.exporting.small_litert import smaller
from stages.exporting.small_onnx import with_half_weights, with_int8_network
from stages.exporting.tensorflow_formats import to_litert, with_metadata, write_saved_model
from stages.learning.front_end import WindowInput, window_input
from stages.learning.model_file import CALIBRATED, SETTINGS_NAME, WEIGHTS_NAME, ModelSettings, load_model
from stages.learning.onnx_graph import to_onnx
from stages.learning.sound_clips import SOUND, choose, find_clips, labels_of
from stages.pipeline.errors import PipelineError, SplitError, StorageError
from stages.pipeline.files import sha256_of_file, sync, write_csv, write_json
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.params import Params
from stages.pipeline.stage_main import stage_main

log = logging.getLogger(__name__)

EXPORT = Path("models/export")
ONNX_NAME, SAVED_MODEL_NAME, CARD_NAME = "model.onnx", "saved_model", "MODEL_CARD.md"
FULL = (ONNX_NAME, "model.tflite", SAVED_MODEL_NAME)  # in float32
METRICS, TABLE = Path("metrics/export/metrics.json"), Path("metrics/export/table.csv")
COLUMNS = (
    "file",
    "bytes",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "same_answer",
    "distance",
    "n_clips",
    "n_groups",
)
# Another summation order moves a few pixels of 8 bits by one; on recordings that has moved probabilities by 2e-3.
TOLERANCE = 0.01
SHARES_OF_WINDOW = (0.1, 0.37, 0.8, 1.0)
CALIBRATION_CLIPS = 64  # of the validation split, for the ranges of int8


def run(params: Params) -> None:
    network, settings = load_model(CALIBRATED)
    scores = read_scores()
    more: dict[str, Any] = {"data_licence": params.export.data_licence.get(params.dataset), "scores": scores.headline}
    for key, name in (("weights_sha256", WEIGHTS_NAME), ("settings_sha256", SETTINGS_NAME)):
        with (CALIBRATED / name).open("rb") as handle:
            more[key] = sha256_of_file(handle)
    known = [row for row in read_manifest() if row.language not in settings.train.unknown_languages]
    folder = EXPORT.with_name(".export.tmp")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_formats(folder, network, settings, more, known, params.evaluate.seed)
        found = compare_all(folder, network, settings, known, params)
        for one in found:
            log.info("%s: %.1f MB, accuracy %.3f, probabilities at most %.4f from the pipeline's",
                     one.name, one.n_bytes / 1e6, one.accuracy, one.distance)  # fmt: skip
        check(found)
        card = model_card(settings, more, scores, found, params.dataset)
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
        put_in_place(folder)
    except OSError as error:
        raise StorageError(f"{EXPORT} could not be written: {error}; free some space or mend the folder") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write_tables(found)


def write_formats(
    folder: Path, network: Any, settings: ModelSettings, more: dict[str, Any], rows: list[Row], seed: int
) -> None:
    """All files but the card. rows : of the manifest, in the model's languages."""
    metadata = metadata_of(settings, more)
    full = to_onnx(network, settings, more)
    write_saved_model(folder / SAVED_MODEL_NAME, network, settings, metadata)
    litert = to_litert(folder / SAVED_MODEL_NAME)
    files = {
        ONNX_NAME: full,
        "model.float16.onnx": with_half_weights(full),
        "model.int8.onnx": with_int8_network(full, calibration_windows(rows, window_input(settings.features), seed)),
        "model.tflite": with_metadata(litert, metadata),
        "model.float16.tflite": with_metadata(smaller(litert, "float16"), metadata),
        "model.int8.tflite": with_metadata(smaller(litert, "int8"), metadata),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)


def calibration_windows(rows: list[Row], window: WindowInput, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """First windows of validation clips; of training clips where there is no validation split."""
    try:
        clips = find_clips(SOUND, rows, "validation")
    except SplitError:
        clips = find_clips(SOUND, rows, "train")
    for sound in sound_of(choose(clips, CALIBRATION_CLIPS, seed), window):
        samples, lengths = windows_of(sound, window)
        yield {"samples": samples[:1], "lengths": lengths[:1]}


def compare_all(folder: Path, network: Any, settings: ModelSettings, rows: list[Row], params: Params) -> list[Compared]:
    """Each file of the folder beside the pipeline, the float32 ones first."""
    window, seed = window_input(settings.features), params.evaluate.seed
    clips = choose(find_clips(SOUND, rows), params.export.max_clips, seed)
    labels, groups = labels_of(clips, settings.languages), np.array([clip.group for clip in clips])
    sounds = [*sound_of(clips, window), *(made_up_sound(window, share) for share in SHARES_OF_WINDOW)]
    reference = pipeline_scores(network, settings, sounds)
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name not in FULL, name))
    found = []
    for name in names:
        exported = exported_scores(runner_of(folder / name), settings, sounds)
        real = slice(len(clips))
        one = compared(name, size_of(folder / name), exported[real], reference[real], labels, groups,
                       params.evaluate.bootstrap_samples, seed)  # fmt: skip
        made_up = distance(exported[len(clips) :], reference[len(clips) :])
        found.append(one if name not in FULL else one.further(made_up))
    return found


def runner_of(path: Path) -> Runner:
    if path.is_dir():
        return saved_model_runner(path)
    return (onnx_runner if path.suffix == ".onnx" else litert_runner)(path.read_bytes())


def size_of(path: Path) -> int:
    """Bytes of a file or of all in a folder."""
    return sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file())


def made_up_sound(window: WindowInput, share: float) -> np.ndarray:
    """Noise over a share of a window, int16, never long enough for a second window."""
    most = (window.frames - 1) * window.hop_length + window.hop_length - 1
    rng = np.random.default_rng(round(100 * share))
    noise = rng.standard_normal(max(1, int(share * most)))
    time = np.arange(len(noise)) / window.rate_hz
    tilted = np.convolve(noise, [1, 0.9, 0.8, 0.4], mode="same") * (0.55 + 0.5 * np.sin(2 * np.pi * 3 * time))
    return np.asarray(np.clip(3000 * tilted, -32768, 32767), np.int16)


def check(found: list[Compared]) -> None:
    """Raises PipelineError where a float32 file is not what was trained."""
    for one in found:
        if one.name in FULL and not one.distance <= TOLERANCE:
            raise PipelineError(
                f"expected the probabilities of {one.name} within {TOLERANCE:g} of the pipeline's, received "
                f"{one.distance:g}: the conversion is at fault. Set the packages of requirements.lock up again "
                "(`make setup`)"
            )


def put_in_place(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
    shutil.rmtree(EXPORT, ignore_errors=True)
    folder.rename(EXPORT)


def write_tables(found: list[Compared]) -> None:
    """The sizes of all, and as metrics those that are worth a line in `dvc exp show`."""
    rows = [
        {
            "file": one.name,
            "bytes": one.n_bytes,
            "accuracy": f"{one.accuracy:.4f}",
            "accuracy_low": f"{one.low:.4f}",
            "accuracy_high": f"{one.high:.4f}",
            "same_answer": f"{one.same:.4f}",
            "distance": f"{one.distance:.3f}",
            "n_clips": one.n_clips,
            "n_groups": one.n_groups,
        }
        for one in found
    ]
    write_csv(TABLE, COLUMNS, rows)
    (onnx,) = (one for one in found if one.name == ONNX_NAME)
    furthest = max(one.distance for one in found if one.name in FULL)
    write_json(METRICS, {"onnx_bytes": onnx.n_bytes, "distance_from_pipeline": round(furthest, 3)})


if __name__ == "__main__":
    sys.exit(stage_main("export"))
