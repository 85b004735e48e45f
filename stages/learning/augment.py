"""Augmentation of batches of images, in numpy: what a voice, a line or a room may change without changing the language.

Every function takes images (batch, bands, columns) in float32, 0 to 255 (255 = the window's peak, 0 = `range_db`
below it), and a random generator; strength 0 switches it off. `augment_batch` chains them. The generator comes
from (seed, epoch, step), so that a resumed run sees the same images as an uninterrupted one.

SpecAugment: Park et al. 2019, arXiv:1904.08779. Mixup: Zhang et al. 2018, arXiv:1710.09412. Frequency warp: vocal
tract length perturbation, Jaitly and Hinton 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stages.pipeline.params import AugmentParams

FULL_SCALE = 255.0


def generator(seed: int, epoch: int, step: int) -> np.random.Generator:
    """The random generator of one batch."""
    return np.random.default_rng([seed, epoch, step])


def _blend_rows(images: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Read row `position` (batch, rows out; fractional) of each image (batch, rows, columns), linearly blended."""
    last = images.shape[1] - 1
    position = np.clip(position, 0, last)
    low = np.minimum(position.astype(np.intp), max(last - 1, 0))
    high = np.minimum(low + 1, last)
    share = (position - low).astype(np.float32)[:, :, None]
    out = np.empty((len(images), position.shape[1], images.shape[2]), np.float32)
    for i, image in enumerate(images):
        a = image[low[i]].astype(np.float32)
        b = image[high[i]].astype(np.float32)
        b -= a
        b *= share[i]
        np.add(a, b, out=out[i])
    return out


def crop_and_stretch(images: np.ndarray, rng: np.random.Generator, columns: int, stretch: float) -> np.ndarray:
    """`columns` columns from a random place, spoken up to (1 + stretch) times faster or slower.

    images : (batch, bands, all columns), uint8 or float32
    Returns (batch, bands, columns), float32. Where the stretched part would be longer than the image, the rest stays
    black, as the resize stage pads.
    """
    batch, _, available = images.shape
    rate = np.exp(rng.uniform(-1, 1, batch) * np.log1p(stretch))
    start = rng.uniform(0, 1, batch) * np.maximum(available - 1 - (columns - 1) * rate, 0)
    if stretch == 0:
        start = np.round(start)
    position = start[:, None] + rate[:, None] * np.arange(columns)  # (batch, columns)
    if stretch == 0 and columns == available:
        return images.astype(np.float32)
    nearest = np.minimum(position.astype(np.intp), available - 1)
    beyond = position > available - 1
    share = (position - nearest).astype(np.float32)
    following = np.minimum(nearest + 1, available - 1)
    out = np.empty((batch, images.shape[1], columns), np.float32)
    for i, image in enumerate(images):
        a = image[:, nearest[i]].astype(np.float32)
        if stretch:
            a += (image[:, following[i]].astype(np.float32) - a) * share[i]
        a[:, beyond[i]] = 0
        out[i] = a
    return out


def warp_frequency(images: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Shift and scale the frequency axis, by up to `strength` of its length in all: a longer or shorter vocal tract."""
    batch, bands, _ = images.shape
    scale, shift = rng.uniform(-1, 1, (2, batch)) * (strength / 2)
    scale, shift = 1 + scale, bands * shift
    position = scale[:, None] * np.arange(bands) + shift[:, None]  # (batch, bands)
    return _blend_rows(images, position)


def equalise(images: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Add a smooth random curve over frequency, up to about `strength` (in units of pixels): microphone and line.

    Black stays black: there is no sound to be amplified.
    """
    batch, bands, _ = images.shape
    axis = np.linspace(-1, 1, bands)
    basis = np.stack([axis, np.cos(np.pi * axis), np.sin(np.pi * axis), np.cos(2 * np.pi * axis)])  # (4, bands)
    curve = (rng.uniform(-strength / 2, strength / 2, (batch, len(basis))) @ basis).astype(np.float32)
    return np.where(images > 0, np.clip(images + curve[:, :, None], 0, FULL_SCALE), 0).astype(np.float32)


def add_noise(images: np.ndarray, rng: np.random.Generator, probability: float, loudest: float) -> np.ndarray:
    """Stationary noise with a random slope and level, from black to `loudest` (pixels); louder of the two is heard.

    Padding (columns that are black from top to bottom) stays black.
    """
    batch, bands, columns = images.shape
    chosen = rng.random(batch) < probability
    level = rng.random((batch, 1)) * loudest
    slope = rng.uniform(-1, 1, (batch, 1)) * np.linspace(-1, 1, bands) * (loudest / 4)  # (batch, bands)
    out = images.copy()
    for i in np.flatnonzero(chosen):
        grain = rng.standard_normal((bands, columns), dtype=np.float32) * (FULL_SCALE * 0.03)
        noise = np.clip(grain + (level[i] + slope[i])[:, None].astype(np.float32), 0, FULL_SCALE)
        noise[:, images[i].max(axis=0) == 0] = 0
        np.maximum(out[i], noise, out=out[i])
    return out


def mask(images: np.ndarray, rng: np.random.Generator, axis: int, count: int, widest: int) -> np.ndarray:
    """SpecAugment: `count` stripes of 0 to `widest` rows (axis 1) or columns (axis 2) become black. In place."""
    batch, length = len(images), images.shape[axis]
    width = rng.integers(0, min(widest, length) + 1, (batch, count))
    start = (rng.random((batch, count)) * (length - width + 1)).astype(np.intp)
    for i in range(batch):
        for first, size in zip(start[i], width[i], strict=True):
            if axis == 1:
                images[i, first : first + size, :] = 0
            else:
                images[i, :, first : first + size] = 0
    return images


def mixup(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each image, and its labels (batch, languages), with another of the batch; share ~ Beta(alpha, alpha)."""
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    other = rng.permutation(len(images))
    mixed = images * share[:, None, None] + images[other] * (1 - share[:, None, None])
    return mixed, labels * share[:, None] + labels[other] * (1 - share[:, None])


def _is_off(params: AugmentParams, columns: int) -> bool:
    strengths = (
        params.time_stretch, params.frequency_warp, params.equalise, params.noise_probability, params.mixup_alpha,
        params.frequency_masks, params.time_masks,
    )  # fmt: skip
    return not any(strengths) and min(params.crop_columns or columns, columns) == columns


def augment_batch(
    images: np.ndarray, labels: np.ndarray, params: AugmentParams, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """All of the above that `params` switches on.

    images : (batch, bands, columns), uint8; labels : (batch, languages), float32
    Returns images (batch, bands, crop_columns or columns), float32, and labels, float32. Where nothing is switched on,
    the images are those received, uint8: a quarter of the bytes on the way to the device, which casts them.
    """
    if _is_off(params, images.shape[2]):
        return images, labels
    columns = min(params.crop_columns or images.shape[2], images.shape[2])
    out = crop_and_stretch(images, rng, columns, params.time_stretch)
    if params.frequency_warp:
        out = warp_frequency(out, rng, params.frequency_warp)
    if params.equalise:
        out = equalise(out, rng, params.equalise * FULL_SCALE)
    if params.noise_probability:
        out = add_noise(out, rng, params.noise_probability, params.noise_loudest * FULL_SCALE)
    if params.mixup_alpha:
        out, labels = mixup(out, labels, rng, params.mixup_alpha)
    if params.frequency_masks:
        out = mask(out, rng, 1, params.frequency_masks, params.frequency_mask_bands)
    if params.time_masks:
        out = mask(out, rng, 2, params.time_masks, params.time_mask_columns)
    return out, labels
