"""Layers of our own, from keras.ops, so that any Keras backend runs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.learning.runtime import keras
from stages.learning.sounds import SOUNDS

layers = keras.layers
ops = keras.ops

SILENT = 30.0  # taken from a padding frame's score, before the softmax


@keras.saving.register_keras_serializable("stages")
class BandNormalise(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Subtract each band's mean over time, which takes microphone, line and much of the voice's timbre away.

    (batch, bands, columns, 1), 0 to 255 -> the same shape, zero mean in each band, about unit variance.
    Columns that are black from top to bottom (padding, digital silence) neither count nor change: they become 0.
    """

    def call(self, images: Any) -> Any:
        images = ops.cast(images, "float32")  # means over hundreds of values want more than 8 bits
        sounding = ops.cast(ops.max(images, axis=1, keepdims=True) > 0, "float32")  # (batch, 1, columns, 1)
        count = ops.maximum(ops.sum(sounding, axis=2, keepdims=True), 1.0)
        mean = ops.sum(images * sounding, axis=2, keepdims=True) / count  # (batch, bands, 1, 1)
        centred = (images - mean) * sounding
        variance = ops.mean(ops.sum(ops.square(centred), axis=2, keepdims=True) / count, axis=1, keepdims=True)
        return ops.cast(centred / ops.sqrt(variance + 1.0), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("stages")
class Sounding(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Which frames have sound: (batch, bands, columns, 1) -> (batch, columns / 2, 1), 1.0, or 0.0 for padding."""

    def call(self, images: Any) -> Any:
        columns = ops.cast(ops.max(images, axis=1) > 0, self.compute_dtype)  # (batch, columns, 1)
        return ops.max_pool(columns, 2, strides=2, padding="same")

    def compute_output_shape(self, input_shape: Any) -> Any:
        columns = input_shape[2]
        return (input_shape[0], None if columns is None else -(-columns // 2), 1)


@keras.saving.register_keras_serializable("stages")
class AttentiveStatistics(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Weighted mean and standard deviation over time, weights learned (Okabe et al. 2018, arXiv:1803.10963).

    Frames (batch, columns, channels) and which of them sound (batch, columns, 1) -> (batch, 2 * channels). Padding
    doesn't count, or a short recording would be known by it.
    """

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden
        self.squeeze = layers.Dense(hidden, activation="tanh", name="squeeze")
        self.score = layers.Dense(1, name="score")

    def build(self, input_shape: Any) -> None:
        frames = input_shape[0]
        self.squeeze.build(frames)
        self.score.build((*frames[:-1], self.hidden))
        self.built = True

    def call(self, inputs: Any) -> Any:
        frames, sounding = inputs
        scores = ops.cast(self.score(self.squeeze(frames)), "float32")  # (batch, columns, 1)
        weights = ops.softmax(scores - SILENT * (1.0 - ops.cast(sounding, "float32")), axis=1)
        frames = ops.cast(frames, "float32")
        mean = ops.sum(weights * frames, axis=1)  # (batch, channels)
        variance = ops.sum(weights * ops.square(frames), axis=1) - ops.square(mean)
        deviation = ops.sqrt(ops.maximum(variance, 1e-5))
        return ops.cast(ops.concatenate([mean, deviation], axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        frames = input_shape[0]
        return (frames[0], 2 * frames[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}


@keras.saving.register_keras_serializable("stages")
class HalveByMax(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Maxima of 2x2 pixels, as MaxPooling2D gives them; XLA's gradient of that one is slow on GPUs.

    (batch, rows, columns, channels) -> half the rows and columns; an odd last one is left out.
    """

    def call(self, x: Any) -> Any:
        rows, columns, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
        pairs = ops.reshape(x[:, : 2 * rows, : 2 * columns], (-1, rows, 2, columns, 2, channels))
        return ops.max(pairs, axis=(2, 4))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, rows, columns, channels = input_shape
        return (batch, rows // 2, columns // 2, channels)


@keras.saving.register_keras_serializable("stages")
class SoundLoss(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Adds to the loss how badly the sounds are heard: mean cross-entropy over the columns of which it is known.

    Logits (batch, frames, sounds) and classes (batch, columns), UNKNOWN where nobody knows, two columns a frame
    """

    def __init__(self, weights: np.ndarray, strength: float, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.weights_of_sounds = np.append(weights, np.zeros(256 - len(weights), np.float32))
        self.strength = strength

    def call(self, inputs: Any) -> Any:
        logits, classes = inputs
        frames, columns = logits.shape[1], classes.shape[1]
        # a frame is centred between its two columns; the later one stands for it
        classes = ops.take(ops.cast(classes, "int32"), np.minimum(2 * np.arange(frames) + 1, columns - 1), axis=1)
        weight = ops.take(ops.convert_to_tensor(self.weights_of_sounds), classes)  # (batch, frames)
        known = ops.one_hot(ops.minimum(classes, len(SOUNDS) - 1), len(SOUNDS))
        loss = -ops.sum(known * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)
        self.add_loss(self.strength * ops.sum(loss * weight) / (ops.sum(weight) + 1e-6))
        return logits
