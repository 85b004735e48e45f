"""Augmentations: repeatable, of the right shape, and doing what their names say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.learning.augment import Augment, interpolation, is_off, stripe
from stages.learning.runtime import keras
from stages.learning.sounds import UNKNOWN
from stages.pipeline.model_params import AugmentParams

OFF: dict[str, Any] = dict.fromkeys(AugmentParams.model_fields, 0)
ALL: dict[str, Any] = {
    "crop_columns": 20, "time_stretch": 0.2, "frequency_warp": 0.1, "equalise": 0.1, "noise_probability": 0.5,
    "noise_loudest": 0.5, "band_limit_probability": 0.5, "reverb_probability": 0.5,
    "shorten_probability": 0.5, "frequency_masks": 2, "frequency_mask_bands": 5,
    "time_masks": 2, "time_mask_columns": 5,
}  # fmt: skip


def layer(seed: int = 1, **values: Any) -> Augment:
    return Augment(AugmentParams.model_validate(OFF | values, strict=False), seed)


def batch(n: int = 6, bands: int = 32, columns: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (n, bands, columns, 1), dtype=np.uint8)


def numpy(values: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(values))


def test_off_is_off() -> None:
    assert is_off(AugmentParams.model_validate(OFF, strict=False))
    for name in ("crop_columns", "time_stretch", "equalise", "band_limit_probability", "time_masks"):
        assert not is_off(AugmentParams.model_validate(OFF | {name: 1}, strict=False))
    assert (numpy(layer()(batch())) == batch()).all()


def test_is_a_function_of_the_seed_and_of_the_steps_before() -> None:
    images = batch()
    first, second = layer(1, **ALL), layer(1, **ALL)
    a, b = numpy(first(images)), numpy(first(images))
    assert (a == numpy(second(images))).all()
    assert (a != b).any(), "another step, other images"
    assert (a != numpy(layer(2, **ALL)(images))).any()
    second.seed_generator.state.assign(first.seed_generator.state)
    assert (numpy(first(images)) == numpy(second(images))).all(), "what a checkpoint keeps is enough"


def test_all_together_stay_in_range() -> None:
    augment = layer(**ALL)
    out = numpy(augment(batch(16)))
    assert out.shape == (16, 32, 20, 1) == augment.compute_output_shape((16, 32, 40, 1))
    assert out.min() >= 0
    assert out.max() <= 255


def test_interpolation_blends_neighbours() -> None:
    weights = numpy(interpolation(np.array([[0.0, 1.25, 9.0]], np.float32), 4))
    assert weights[0].tolist() == [[1, 0, 0, 0], [0, 0.75, 0.25, 0], [0, 0, 0, 0]]
    assert numpy(stripe(np.array([[1.0]]), np.array([[2.0]]), 4)).tolist() == [[0, 1, 1, 0]]


def test_crop_takes_a_piece_as_it_is() -> None:
    images = batch()[..., 0]
    out = numpy(layer().crop_and_stretch(images.astype(np.float32), 10, 0.0)[0])
    for image, piece in zip(images, out, strict=True):
        assert any((image[:, s : s + 10] == piece).all() for s in range(31))


def test_stretch_changes_the_tempo() -> None:
    ramp = np.broadcast_to(np.arange(1, 201, dtype=np.float32), (200, 8, 200))
    out = numpy(layer().crop_and_stretch(ramp, 100, 0.25)[0])
    tempo = (out[:, 0, 98] - out[:, 0, 0]) / 98  # a ramp's slope is the tempo
    assert tempo.min() >= 1 / 1.25 - 1e-2
    assert tempo.max() <= 1.25 + 1e-2
    assert tempo.std() > 0.1
    too_long = numpy(layer().crop_and_stretch(ramp, 200, 0.25)[0])
    assert (too_long[:, :, -1] == 0).any(), "what lies beyond the recording is black"


def test_warp_moves_bands_not_columns() -> None:
    images = np.zeros((50, 64, 4), np.float32)
    images[:, 32] = 200
    out = numpy(layer().warp_frequency(images, 0.2))
    peak = out[:, :, 0].argmax(axis=1)
    assert len(set(peak.tolist())) > 5
    assert np.abs(peak - 32).max() <= 0.2 * 64
    assert (out == out[:, :, :1]).all()


def test_equaliser_and_noise_leave_padding_black() -> None:
    images = batch()[..., 0].astype(np.float32)
    images[:, :, 30:] = 0
    out = numpy(layer().equalise(images, 30))
    assert (out[:, :, 30:] == 0).all()
    assert (out[:, :, :30] != images[:, :, :30]).mean() > 0.5
    noisy = numpy(layer().add_noise(images, 1.0, 200.0))
    assert (noisy[:, :, 30:] == 0).all()
    assert (noisy >= images).all()
    assert (noisy > images).any(axis=(1, 2)).mean() > 0.5
    assert (numpy(layer().add_noise(images, 0.0, 200.0)) == images).all()


def test_band_limit_takes_the_upper_bands_of_some() -> None:
    images = np.full((200, 32, 4), 9, np.float32)
    out = numpy(layer().band_limit(images, 0.5))
    left = out.any(axis=2).sum(axis=1)
    assert (out[:, :16] == 9).all()
    assert 60 < (left < 32).sum() < 140
    assert (out.all(axis=2) == out.any(axis=2)).all()


def test_reverberation_lets_sounds_fade() -> None:
    images = np.zeros((100, 8, 30), np.float32)
    images[:, 2, 10] = 200
    out = numpy(layer().reverberate(images, 0.5))
    assert (out >= images).all()
    assert (out[:, [0, 1, 3, 4, 5, 6, 7]] == 0).all()
    assert (out[:, :, :10] == 0).all(), "nothing is heard before its cause"
    tail = out[:, 2, 10:]
    assert (np.diff(tail, axis=1) <= 0).all()
    assert 30 < (tail[:, 1] > 0).sum() < 70


def test_shortened_images_end_in_black() -> None:
    out = numpy(layer(shorten_probability=0.5)(np.full((200, 4, 30, 1), 9, np.uint8)))[..., 0]
    length = out.any(axis=1).sum(axis=1)
    assert length.min() >= 9
    assert 60 < (length < 30).sum() < 140
    assert all((image[:, :n] == 9).all() and not image[:, n:].any() for image, n in zip(out, length, strict=True))


@pytest.mark.parametrize("axis", [1, 2])
def test_masks_are_stripes(axis: int) -> None:
    kind = "frequency" if axis == 1 else "time"
    unit = "bands" if axis == 1 else "columns"
    images = np.full((40, 32, 30, 1), 9, np.uint8)
    out = numpy(layer(**{f"{kind}_masks": 2, f"{kind}_mask_{unit}": 6})(images))[..., 0]
    across = out.any(axis=3 - axis)  # (batch, length)
    assert (out.all(axis=3 - axis) == across).all(), "a row or column is masked whole or not at all"
    assert ((~across).sum(axis=1) <= 12).all()
    assert (~across).any()
    assert layer(**{f"{kind}_masks": 1, f"{kind}_mask_{unit}": 99})(images).shape == images.shape


def test_sounds_go_where_their_columns_go() -> None:
    """Each column's brightness tells its number, so what is said in it can be looked up afterwards."""
    columns = 120
    images = np.broadcast_to(np.arange(1, columns + 1, dtype=np.uint8)[None, None, :, None], (64, 8, columns, 1))
    sounds = np.broadcast_to((np.arange(columns) // 10).astype(np.uint8), (64, columns))
    augment = layer(crop_columns=90, time_stretch=0.25, shorten_probability=0.5)
    out, classes = (numpy(part) for part in augment([images, sounds]))
    assert out.shape == (64, 8, 90, 1)
    assert classes.shape == (64, 90)
    assert augment.compute_output_shape([(64, 8, columns, 1), (64, columns)]) == [(64, 8, 90, 1), (64, 90)]
    heard = out[:, 0, :, 0] > 0
    place = out[:, 0, :, 0] - 1
    away_from_edges = heard & (np.abs(place % 10 - 4.5) < 4)
    assert away_from_edges.mean() > 0.4
    assert (classes[away_from_edges] == place[away_from_edges] // 10).all()
    assert (classes[~heard] == UNKNOWN).mean() > 0.95, "of what is black nobody knows what is said"
    assert (~heard).any()
