"""Exported files against the pipeline, on the same real recordings.

The pipeline's side is log_mel -> resize_to_image -> the network -> the temperature; the exported one's samples, cut
into windows, and what the file answers. Both pool a recording's windows by the mean of their log-probabilities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from stages.learning import metrics
from stages.learning.front_end import WindowInput, window_input
from stages.learning.onnx_graph import OUTPUT
from stages.learning.runtime import quiet_stderr
from stages.learning.sound_clips import Clip
from stages.logmel import log_mel
from stages.pipeline.shards import Shard
from stages.resize import resize_to_image, window_starts

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

MOST_WINDOWS = 3  # of a recording; an hour of sound says no more about a file than half a minute
# (windows, samples) float32 and (windows,) int64 -> (windows, languages)
Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]


def onnx_runner(data: bytes, threads: int = 0) -> Runner:
    """Threads : 0 is as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda samples, lengths: np.asarray(session.run([OUTPUT], {"samples": samples, "lengths": lengths})[0])


def litert_runner(data: bytes, threads: int | None = None) -> Runner:
    with quiet_stderr():
        interpreter = Interpreter(model_content=data, num_threads=threads)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    return lambda samples, lengths: np.asarray(runner(samples=samples, lengths=lengths)[OUTPUT])


def saved_model_runner(folder: Path) -> Runner:
    loaded = tf.saved_model.load(str(folder))  # the function below keeps it alive
    function = loaded.signatures["serving_default"]

    def run(samples: np.ndarray, lengths: np.ndarray, loaded: Any = loaded) -> np.ndarray:
        return np.asarray(function(samples=tf.constant(samples), lengths=tf.constant(lengths))[OUTPUT])

    return run


def windows_of(samples: np.ndarray, window: WindowInput) -> tuple[np.ndarray, np.ndarray]:
    """What exported files take of a recording.

    samples : (n,) int16, at the model's sample rate
    Returns (windows, window.samples) float32, full scale 1, and (windows,) int64, samples from each window's start on
    """
    starts = window_starts(1 + len(samples) // window.hop_length, window.frames, window.stride_frames)
    begins = np.array(starts) * window.hop_length
    rows = np.zeros((len(begins), window.samples), np.float32)
    for row, begin in zip(rows, begins - window.before, strict=True):
        part = samples[max(0, begin) : begin + window.samples]
        row[max(0, -begin) :][: len(part)] = part / np.float32(32768)
    return rows, len(samples) - begins


def sound_of(clips: Sequence[Clip], window: WindowInput) -> Iterator[np.ndarray]:
    """Each clip's samples, (n,) int16, up to `MOST_WINDOWS` windows from its beginning.

    Raises
    ------
    StorageError
        A shard is damaged.
    """
    most = (window.frames + (MOST_WINDOWS - 1) * window.stride_frames - 1) * window.hop_length
    for clip in clips:
        with Shard(clip.shard) as shard:
            yield np.asarray(shard.view(clip.row)[: min(most, clip.length)])


def pipeline_scores(network: Any, settings: ModelSettings, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """(clips, languages) log-probabilities, as the evaluate stage comes to them."""
    features = settings.features
    per_second = features.resample.rate_hz / features.logmel.hop_length
    found = []
    for samples in sounds:
        bands = log_mel(samples, features.resample.rate_hz, features.logmel)
        images = resize_to_image(bands, per_second, features.resize)
        found.append(network.predict_on_batch(images.astype(np.float32)))
    return metrics.temper(_pooled(found), settings.temperature)


def exported_scores(runner: Runner, settings: ModelSettings, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """(clips, languages) log-probabilities that an exported file gives."""
    window = window_input(settings.features)
    return _pooled([runner(*windows_of(samples, window)) for samples in sounds])


def _pooled(found: list[np.ndarray]) -> np.ndarray:
    clip = np.repeat(np.arange(len(found)), [len(one) for one in found])
    return metrics.pool_windows(np.concatenate(found), clip, len(found))


def distance(scores: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference of a probability; infinite where one is no number."""
    largest = float(np.abs(np.exp(scores) - np.exp(reference)).max())
    return largest if np.isfinite(largest) else float("inf")


@dataclass(frozen=True)
class Compared:
    """One file beside the pipeline; accuracy with its 95 % interval over groups.

    same : share of the clips whose best language is the pipeline's.
    """

    name: str
    n_bytes: int
    accuracy: float
    low: float
    high: float
    same: float
    distance: float
    n_clips: int
    n_groups: int

    def further(self, other: float) -> Compared:
        """The same, with the larger of the two distances."""
        return dataclasses.replace(self, distance=max(self.distance, other))


def compared(
    name: str, n_bytes: int, scores: np.ndarray, reference: np.ndarray, labels: np.ndarray, groups: np.ndarray,
    samples: int, seed: int,
) -> Compared:  # fmt: skip
    """samples, seed : of the bootstrap."""
    best = scores.argmax(axis=1)
    interval = metrics.bootstrap_accuracy(best == labels, groups, samples, seed)
    return Compared(
        name, n_bytes, float((best == labels).mean()), interval.low, interval.high,
        float((best == reference.argmax(axis=1)).mean()), distance(scores, reference),
        len(labels), len(set(groups)),
    )  # fmt: skip
