"""Export: the trained model -> models/export/model.onnx, which takes sound and runs without this repository.

The file is compared with the pipeline before it is kept: the same made-up sound goes through the data stages' functions
and the Keras network on one side and through onnxruntime on the other, and the probabilities must agree. How far they
are apart stands in metrics/export/metrics.json.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from stages.learning import metrics
from stages.learning.front_end import WindowInput, window_input
from stages.learning.model_file import CALIBRATED, SETTINGS_NAME, WEIGHTS_NAME, FeatureSettings, load_model
from stages.learning.onnx_graph import OUTPUT, to_onnx
from stages.logmel import log_mel
from stages.pipeline.errors import PipelineError, StorageError
from stages.pipeline.files import sha256_of_file, write_json
from stages.pipeline.params import Params
from stages.pipeline.runner import stage_main
from stages.resize import resize_to_image

log = logging.getLogger(__name__)

EXPORT = Path("models/export")
ONNX_NAME = "model.onnx"
METRICS = Path("metrics/export/metrics.json")
# Another summation order moves a few pixels of 8 bits by one; on recordings that has moved probabilities by 1e-3.
TOLERANCE = 0.01
SHARES_OF_WINDOW = (0.1, 0.37, 0.8, 1.0)


def run(params: Params) -> None:
    del params  # everything about a model stands in the model's own files
    network, settings = load_model(CALIBRATED)
    sources = {}
    for key, name in (("weights_sha256", WEIGHTS_NAME), ("settings_sha256", SETTINGS_NAME)):
        with (CALIBRATED / name).open("rb") as handle:
            sources[key] = sha256_of_file(handle)
    data = to_onnx(network, settings, sources)
    distance = distance_from_pipeline(data, network, settings.features, settings.temperature)
    if not distance <= TOLERANCE:
        raise PipelineError(
            f"expected the ONNX file's probabilities within {TOLERANCE:g} of the pipeline's, received {distance:g}: "
            "the conversion is at fault. Set the packages of requirements.lock up again (`make setup`)"
        )
    write_folder(EXPORT, {ONNX_NAME: data})
    write_json(METRICS, {"onnx_bytes": len(data), "distance_from_pipeline": round(distance, 3)})
    log.info("%s: %.1f MB, %d languages", EXPORT / ONNX_NAME, len(data) / 1e6, len(settings.languages))


def distance_from_pipeline(data: bytes, network: Any, features: FeatureSettings, temperature: float) -> float:
    """Largest difference of a probability on noise whose loudness and colour change, in windows full and short."""
    window = window_input(features)
    clips = [made_up_sound(window, share) for share in SHARES_OF_WINDOW]
    images = [
        resize_to_image(log_mel(clip, window.rate_hz, features.logmel), window.rate_hz / window.hop_length,
                        features.resize)
        for clip in clips
    ]  # fmt: skip
    as_trained = network.predict_on_batch(np.concatenate(images).astype(np.float32))
    expected = np.exp(metrics.temper(np.log(np.maximum(as_trained, metrics.TINY)), temperature))
    samples = np.zeros((len(clips), window.samples), np.float32)
    for row, clip in zip(samples, clips, strict=True):
        heard = clip[: window.samples - window.before]  # where frames hardly overlap, the last samples are in none
        row[window.before :][: len(heard)] = heard / np.float32(32768)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    lengths = np.array([len(clip) for clip in clips], np.int64)
    (found,) = session.run([OUTPUT], {"samples": samples, "lengths": lengths})
    return float(np.abs(found - expected).max())


def made_up_sound(window: WindowInput, share: float) -> np.ndarray:
    """Noise over a share of a window, int16, never long enough for a second window."""
    most = (window.frames - 1) * window.hop_length + window.hop_length - 1
    rng = np.random.default_rng(round(100 * share))
    noise = rng.standard_normal(max(1, int(share * most)))
    time = np.arange(len(noise)) / window.rate_hz
    tilted = np.convolve(noise, [1, 0.9, 0.8, 0.4], mode="same") * (0.55 + 0.5 * np.sin(2 * np.pi * 3 * time))
    return np.asarray(np.clip(3000 * tilted, -32768, 32767), np.int16)


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Raises StorageError where the disk is full or the folder cannot be written."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in files.items():
            with (folder / name).open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error}; free some space or mend the folder") from error


if __name__ == "__main__":
    sys.exit(stage_main("export"))
