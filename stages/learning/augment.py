"""Augmentation of batches of images: what a voice, a line or a room may change without changing the language.

It is the first layer of the network that is trained, written in keras.ops, so that it runs where the network does: on a
GPU it costs nothing that the input would have to wait for. The saved model doesn't have it.

Its random numbers come from a seed generator whose state is one of the model's variables, so that a resumed run sees
the same images as an uninterrupted one. Images are (batch, bands, columns), 0 to 255 (255 = the window's peak,
0 = `range_db` below it); strength 0 switches a part off.

Sources: SpecAugment, Park et al. 2019, arXiv:1904.08779; frequency warp: vocal tract length perturbation, Jaitly and
Hinton 2013.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.learning.runtime import keras
from stages.learning.sounds import UNKNOWN

if TYPE_CHECKING:
    from stages.pipeline.model_params import AugmentParams

ops = keras.ops

FULL_SCALE = 255.0
REVERB_COLUMNS = 12
GRAIN = 0.05  # of full scale: how much noise varies from pixel to pixel, both ways


def is_off(params: AugmentParams) -> bool:
    """Whether images come out as they go in."""
    strengths = (
        params.crop_columns, params.time_stretch, params.reverb_probability, params.frequency_warp, params.equalise,
        params.noise_probability, params.band_limit_probability, params.shorten_probability, params.frequency_masks,
        params.time_masks,
    )  # fmt: skip
    return not any(strengths)


def interpolation(position: Any, length: int) -> Any:
    """Weights that read a row of `length` values at fractional positions, linearly blended: a matrix product does it.

    position : (batch, n) -> (batch, n, length). Positions beyond the ends by one or more read nothing.
    """
    return ops.relu(1.0 - ops.abs(position[:, :, None] - np.arange(length, dtype=np.float32)))


def stripe(start: Any, width: Any, length: int) -> Any:
    """1.0 inside of [start, start + width), else 0.0. start, width : (batch, 1) -> (batch, length)."""
    place = np.arange(length, dtype=np.float32)[None, :]
    return ops.cast(ops.logical_and(place >= start, place < start + width), "float32")


def _at(position: Any, classes: Any) -> Any:
    """The classes of the columns nearest to `position`, (batch, n); UNKNOWN beyond the end."""
    last = classes.shape[1] - 1
    nearest = ops.cast(ops.round(ops.clip(position, 0.0, float(last))), "int32")
    found = ops.take_along_axis(ops.cast(classes, "int32"), nearest, axis=1)
    return ops.where(position < last + 1.0, found, UNKNOWN)


@keras.saving.register_keras_serializable("stages")
class Augment(keras.layers.Layer):  # type: ignore[misc,name-defined]
    """(batch, bands, columns, 1) -> (batch, bands, crop_columns or columns, 1), float32, 0 to 255.

    Called with images and what is said in their columns, (batch, columns) classes of stages.learning.sounds, it gives
    both, the classes as the columns went.
    """

    def __init__(self, params: AugmentParams, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.params = params
        self.seed_generator = keras.random.SeedGenerator(seed)

    def _uniform(self, shape: tuple[Any, ...], low: float = -1.0, high: float = 1.0) -> Any:
        return keras.random.uniform(shape, low, high, dtype="float32", seed=self.seed_generator)

    def compute_output_shape(self, input_shape: Any) -> Any:
        images, *sounds = input_shape if isinstance(input_shape, list) else [input_shape]
        batch, bands, columns, channels = images
        columns = min(self.params.crop_columns or columns, columns)
        return [(batch, bands, columns, channels), (batch, columns)] if sounds else (batch, bands, columns, channels)

    def call(self, inputs: Any) -> Any:
        p = self.params
        images, *sounds = inputs if isinstance(inputs, list) else [inputs]
        x = ops.cast(images, "float32")[..., 0]
        if p.crop_columns or p.time_stretch:
            x, position = self.crop_and_stretch(x, min(p.crop_columns or x.shape[2], x.shape[2]), p.time_stretch)
            sounds = [_at(position, classes) for classes in sounds]
        if p.reverb_probability:
            x = self.reverberate(x, p.reverb_probability)
        if p.frequency_warp:
            x = self.warp_frequency(x, p.frequency_warp)
        if p.equalise:
            x = self.equalise(x, p.equalise * FULL_SCALE)
        if p.noise_probability:
            x = self.add_noise(x, p.noise_probability, p.noise_loudest * FULL_SCALE)
        if p.band_limit_probability:
            x = self.band_limit(x, p.band_limit_probability)
        if p.shorten_probability:
            kept = self.shorten(x, p.shorten_probability)
            x = x * kept[:, None, :]
            sounds = [ops.where(kept > 0, classes, UNKNOWN) for classes in sounds]
        for _ in range(p.frequency_masks):
            x = x * (1.0 - self._stripe(x, x.shape[1], p.frequency_mask_bands))[:, :, None]
        for _ in range(p.time_masks):
            x = x * (1.0 - self._stripe(x, x.shape[2], p.time_mask_columns))[:, None, :]
        return [x[..., None], *sounds] if sounds else x[..., None]

    def crop_and_stretch(self, x: Any, columns: int, stretch: float) -> tuple[Any, Any]:
        """`columns` columns from a random place, spoken up to (1 + stretch) times faster or slower; and which they are.

        Where the stretched part would be longer than the image, the rest stays black, as the resize stage pads.
        """
        batch, available = ops.shape(x)[0], x.shape[2]
        rate = ops.exp(self._uniform((batch, 1)) * math.log1p(stretch))
        start = self._uniform((batch, 1), 0.0) * ops.maximum(available - 1 - (columns - 1) * rate, 0.0)
        if not stretch:
            start = ops.round(start)
        position = start + rate * np.arange(columns, dtype=np.float32)[None, :]
        return ops.matmul(x, ops.transpose(interpolation(position, available), (0, 2, 1))), position

    def reverberate(self, x: Any, probability: float) -> Any:
        """A room: each sound fades over the next columns instead of ending; the louder of the two is heard.

        The late sound begins 5 to 40 below the direct one and loses 3 to 30 a column (pixels' units: 1 to 9 dB).
        """
        batch, columns = ops.shape(x)[0], x.shape[2]
        chosen = self._uniform((batch, 1, 1), 0.0) < probability
        loss, gap = self._uniform((batch, 1, 1), 3.0, 30.0), self._uniform((batch, 1, 1), 5.0, 40.0)
        late = x
        for n in range(1, REVERB_COLUMNS + 1):
            late = ops.maximum(late, ops.pad(x, [[0, 0], [0, 0], [n, 0]])[:, :, :columns] - gap - loss * n)
        return ops.where(chosen, late, x)

    def warp_frequency(self, x: Any, strength: float) -> Any:
        """Shift and scale the bands, by up to `strength` of their number in all: a longer or shorter vocal tract."""
        batch, bands = ops.shape(x)[0], x.shape[1]
        scale = 1.0 + self._uniform((batch, 1)) * (strength / 2)
        shift = self._uniform((batch, 1)) * (strength / 2 * bands)
        position = scale * np.arange(bands, dtype=np.float32)[None, :] + shift
        return ops.matmul(interpolation(ops.clip(position, 0.0, bands - 1.0), bands), x)

    def equalise(self, x: Any, strength: float) -> Any:
        """Add a smooth random curve over frequency, up to about `strength` (in pixels' units): microphone and line.

        Black stays black: there is no sound to be amplified.
        """
        axis = np.linspace(-1, 1, x.shape[1])
        basis = np.stack([axis, np.cos(np.pi * axis), np.sin(np.pi * axis), np.cos(2 * np.pi * axis)])  # (4, bands)
        curve = ops.matmul(self._uniform((ops.shape(x)[0], 4)) * (strength / 2), basis.astype(np.float32))
        return ops.where(x > 0, ops.clip(x + curve[:, :, None], 0.0, FULL_SCALE), 0.0)

    def add_noise(self, x: Any, probability: float, loudest: float) -> Any:
        """Stationary noise with a random slope and level, from black to `loudest`; the louder of the two is heard.

        Padding (columns that are black from top to bottom) stays black.
        """
        batch, bands, columns = ops.shape(x)[0], x.shape[1], x.shape[2]
        chosen = ops.cast(self._uniform((batch, 1, 1), 0.0) < probability, "float32")
        axis = np.linspace(-1, 1, bands, dtype=np.float32)[None, :, None]
        level = self._uniform((batch, 1, 1), 0.0) * loudest + self._uniform((batch, 1, 1)) * axis * (loudest / 4)
        grain = self._uniform((batch, bands, columns)) * (GRAIN * FULL_SCALE)
        sounding = ops.cast(ops.max(x, axis=1, keepdims=True) > 0, "float32")
        return ops.maximum(x, ops.clip(level + grain, 0.0, FULL_SCALE) * chosen * sounding)

    def band_limit(self, x: Any, probability: float) -> Any:
        """Black above a random band of the upper half: a telephone, a narrow recording."""
        batch, bands = ops.shape(x)[0], x.shape[1]
        chosen = self._uniform((batch, 1), 0.0) < probability
        edge = ops.where(chosen, self._uniform((batch, 1), 0.5) * bands, float(bands))
        return x * stripe(0.0, edge, bands)[:, :, None]

    def shorten(self, x: Any, probability: float) -> Any:
        """(batch, columns), 0.0 behind a random place after the first third: a recording that ends sooner, padded."""
        batch, columns = ops.shape(x)[0], x.shape[2]
        chosen = self._uniform((batch, 1), 0.0) < probability
        end = ops.where(chosen, self._uniform((batch, 1), 0.3) * columns, float(columns))
        return stripe(0.0, end, columns)

    def _stripe(self, x: Any, length: int, widest: int) -> Any:
        """One stripe of 0 to `widest` rows or columns at a random place, (batch, length)."""
        batch, widest = ops.shape(x)[0], min(widest, length)
        width = ops.floor(self._uniform((batch, 1), 0.0) * (widest + 1))
        start = ops.floor(self._uniform((batch, 1), 0.0) * (length - width + 1))
        return stripe(start, width, length)
