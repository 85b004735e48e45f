"""What a network says of the windows of a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.learning.dataset import Images, scoring_batches


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
