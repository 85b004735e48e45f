"""From samples to the network's image as one Keras layer, for models that leave this pipeline.

The same arithmetic as `stages.logmel.log_mel` and `stages.resize.resize_to_image` (whose filters and params it takes),
their roundings to float16 and uint8 included, but in operations that every format of exported models knows: the Fourier
transform is a convolution with fixed kernels, because FFT operations cannot be exported to most of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.learning.runtime import keras
from stages.logmel import band_filters
from stages.resize import DB_PER_DECADE, area_weights

if TYPE_CHECKING:
    from stages.learning.model_file import FeatureSettings

ops = keras.ops


@dataclass(frozen=True)
class WindowInput:
    """What a window of sound must look like at the input of an exported model.

    samples : in a window. The middle of the first frame lies on sample `before`, that of the last on sample
        `samples - before`, so a window holds `before` samples of what comes before and after it (zeros where the
        recording has nothing there).
    frames : of the spectrogram in a window; a recording of n samples has 1 + n // hop_length.
    stride_frames : from one window of a long recording to the next, about.
    """

    rate_hz: int
    samples: int
    before: int
    hop_length: int
    frames: int
    stride_frames: int


def window_input(features: FeatureSettings) -> WindowInput:
    """The input of a model with these feature settings."""
    rate_hz, logmel, resize = features.resample.rate_hz, features.logmel, features.resize
    per_second = rate_hz / logmel.hop_length
    frames = max(1, round(resize.window_seconds * per_second))
    return WindowInput(
        rate_hz=rate_hz,
        samples=(frames - 1) * logmel.hop_length + logmel.n_fft,
        before=logmel.n_fft // 2,
        hop_length=logmel.hop_length,
        frames=frames,
        stride_frames=max(1, round(resize.stride_seconds * per_second)),
    )


class FrontEnd(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Windows of sound -> images, as the resize stage makes them.

    samples : (windows, WindowInput.samples) float32, full scale 1
    lengths : (windows,) int64, samples of the recording from the middle of the window's first frame on; a recording
        that ends inside the window gives fewer columns, the rest of the image is black
    Returns (windows, height, width, 1) float32, whole numbers from 0 to 255
    """

    def __init__(self, features: FeatureSettings, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.features = features
        self.window = window_input(features)

    def call(self, samples: Any, lengths: Any) -> Any:
        resize = self.features.resize
        hop = self.window.hop_length
        longest = ops.cast(ops.minimum(lengths, (self.window.frames - 1) * hop), "int32")
        frames = longest // hop + 1  # LiteRT divides no numbers of 64 bits
        columns = self._columns(frames)
        image = self._decibels(samples)  # (windows, frames, bands)
        if resize.intensity != "log":
            image = ops.power(np.float32(10), image / DB_PER_DECADE[resize.intensity])
        image = ops.matmul(self._time_weights(frames, columns), image)  # (windows, width, bands)
        if self.features.logmel.n_mels != resize.height:
            rows = area_weights(self.features.logmel.n_mels, resize.height).toarray()
            image = ops.matmul(image, rows.T)  # (windows, width, height)
        real = (ops.arange(resize.width) < columns[:, None])[..., None]  # (windows, width, 1)
        peak = ops.max(ops.where(real, image, -np.float32(np.inf)), axis=(1, 2), keepdims=True)
        if resize.intensity == "log":
            above = ops.maximum(image + (np.float32(resize.range_db) - peak), 0.0)
            scaled = above * np.float32(255 / resize.range_db)
        else:
            scaled = image * (np.float32(255) / peak)
        pixels = ops.where(real, ops.round(scaled), 0.0)
        return ops.transpose(pixels, (0, 2, 1))[..., None]

    def _decibels(self, samples: Any) -> Any:
        """(windows, samples) -> (windows, frames, bands), band energies rounded as the logmel stage rounds them."""
        params = self.features.logmel
        filters = band_filters(self.window.rate_hz, params).toarray()  # (bands, bins)
        used = np.flatnonzero(filters.any(axis=0))
        kernel = fourier_kernel(params.n_fft, used)[:, None, :]  # (n_fft, 1, 2 * bins)
        spectrum = ops.conv(samples[..., None], kernel, strides=params.hop_length, padding="valid")
        real, imaginary = spectrum[..., : len(used)], spectrum[..., len(used) :]
        power = ops.square(real) + ops.square(imaginary)
        energy = ops.maximum(ops.matmul(power, filters[:, used].T), np.float32(10 ** (params.floor_db / 10)))
        return ops.cast(ops.cast(np.float32(10) * ops.log10(energy), "float16"), "float32")

    def _columns(self, frames: Any) -> Any:
        """Columns of sound in each image, (windows,) int32; half goes to even, as Python rounds."""
        share = ops.cast(frames * self.features.resize.width, "float32") / np.float32(self.window.frames)
        return ops.maximum(ops.cast(ops.round(share), "int32"), 1)

    def _time_weights(self, frames: Any, columns: Any) -> Any:
        """`area_weights(frames, columns)` of each window with zeros around it, (windows, width, window frames).

        In whole numbers, each frame `columns` long and each column `frames` long: exact up to the last division.
        """
        frames, columns = frames[:, None, None], columns[:, None, None]
        column = ops.arange(self.features.resize.width, dtype="int32")[None, :, None]
        cell = ops.arange(self.window.frames, dtype="int32")[None, None, :]
        overlap = ops.minimum((column + 1) * frames, (cell + 1) * columns) - ops.maximum(
            column * frames, cell * columns
        )
        inside = ops.logical_and(column < columns, cell < frames)
        overlap = ops.where(inside, ops.maximum(overlap, 0), 0)
        return ops.cast(overlap, "float32") / ops.cast(frames, "float32")


def fourier_kernel(n_fft: int, bins: np.ndarray) -> np.ndarray:
    """Kernels that take a Hann-windowed Fourier transform: (n_fft, 2 * len(bins)) float32, cosines, then sines."""
    time = np.arange(n_fft)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / n_fft)
    angle = 2 * np.pi * np.outer(time, bins) / n_fft
    both = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(hann[:, None] * both, np.float32)


class Temper(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """`stages.learning.metrics.temper` on probabilities: (windows, languages) -> the same, surer or less sure.

    Tempering each window and then pooling gives what pooling and then tempering does: both average the same
    log-probabilities over the windows.
    """

    def __init__(self, temperature: float, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.temperature = temperature

    def call(self, probabilities: Any) -> Any:
        logs = ops.log(ops.maximum(probabilities, np.float32(1e-12)))
        return ops.softmax(logs / np.float32(self.temperature), axis=-1)


def with_front_end(network: Any, features: FeatureSettings, temperature: float) -> Any:
    """A model from samples and lengths to probabilities.

    network : in float32, from images to probabilities
    """
    window = window_input(features)
    samples = keras.Input((window.samples,), name="samples", dtype="float32")
    lengths = keras.Input((), name="lengths", dtype="int64")
    probabilities = network(FrontEnd(features, name="front_end")(samples, lengths))
    if temperature != 1:
        probabilities = Temper(temperature, name="temper")(probabilities)
    return keras.Model([samples, lengths], probabilities, name="recogniser")
