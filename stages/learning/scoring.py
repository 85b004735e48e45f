"""What a network says of the windows of a split, and of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.learning.dataset import Images, Windows, scoring_batches
from stages.learning.metrics import pool_windows, temper
from stages.pipeline.manifest_table import Row


@dataclass(frozen=True)
class Scored:
    """Clips and what a model says of them.

    scores : (clips, languages) log-probabilities; labels, predicted : (clips,) numbers of languages
    """

    clips: Sequence[Row]
    languages: Sequence[str]
    scores: np.ndarray
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        out: np.ndarray = self.scores.argmax(axis=1)
        return out

    @property
    def groups(self) -> np.ndarray:
        return np.array([clip.group for clip in self.clips])

    @property
    def sureness(self) -> np.ndarray:
        """(clips,) probability of the most probable language."""
        out: np.ndarray = np.exp(self.scores.max(axis=1))
        return out

    def tempered(self, temperature: float) -> Scored:
        return replace(self, scores=temper(self.scores, temperature))


def score_clips(model: Any, windows: Windows, languages: Sequence[str], batch_size: int) -> Scored:
    """All clips of `windows`, at temperature 1.

    languages : the model's. `labels` are those of the windows.
    """
    images = Images(windows, memory_gb=0)  # each is read once
    probabilities = predict_windows(model, images, batch_size)
    labels = np.zeros(len(windows.clips), np.int64)
    labels[windows.clip] = windows.label
    return Scored(windows.clips, languages, pool_windows(probabilities, windows.clip, len(windows.clips)), labels)


def predict_windows(model: Any, images: Images, batch_size: int) -> np.ndarray:
    """(windows, languages) float32 probabilities."""
    if not len(images.windows):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    batches = ((batch,) for batch in scoring_batches(images, batch_size))
    steps = -(-len(images.windows) // batch_size)
    scores = model.predict(batches, steps=steps, verbose=0)
    out: np.ndarray = np.empty_like(scores)
    out[images.reading_order()] = scores
    return out
