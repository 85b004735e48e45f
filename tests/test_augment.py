"""Augmentations: repeatable, of the right shape, and doing what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from stages.learning import augment
from stages.pipeline.params import AugmentParams

OFF = {
    "crop_columns": 0, "time_stretch": 0.0, "frequency_warp": 0.0, "equalise": 0.0, "noise_probability": 0.0,
    "noise_loudest": 0.0, "mixup_alpha": 0.0, "frequency_masks": 0, "frequency_mask_bands": 0, "time_masks": 0,
    "time_mask_columns": 0,
}  # fmt: skip
ALL = OFF | {
    "crop_columns": 20, "time_stretch": 0.2, "frequency_warp": 0.1, "equalise": 0.1, "noise_probability": 1.0,
    "noise_loudest": 0.5, "mixup_alpha": 0.4, "frequency_masks": 2, "frequency_mask_bands": 5, "time_masks": 2,
    "time_mask_columns": 5,
}  # fmt: skip


def batch(n: int = 6, bands: int = 32, columns: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (n, bands, columns), dtype=np.uint8), np.eye(3, dtype=np.float32)[np.arange(n) % 3]


def test_off_changes_nothing() -> None:
    images, labels = batch()
    out, out_labels = augment.augment_batch(
        images, labels, AugmentParams.model_validate(OFF), augment.generator(1, 0, 0)
    )
    assert out.dtype == np.uint8, "cast on the device"
    assert (out == images).all()
    assert (out_labels == labels).all()


def test_is_a_function_of_seed_epoch_and_step() -> None:
    images, labels = batch()
    params = AugmentParams.model_validate(ALL)

    def run(*place: int) -> np.ndarray:
        return augment.augment_batch(images, labels, params, augment.generator(*place))[0]

    before = images.copy()
    assert (run(1, 2, 3) == run(1, 2, 3)).all()
    assert (images == before).all(), "the data set itself was changed"
    for other in ((0, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)):
        assert (run(1, 2, 3) != run(*other)).any()


def test_all_together_stay_in_range() -> None:
    images, labels = batch(16)
    out, out_labels = augment.augment_batch(
        images, labels, AugmentParams.model_validate(ALL), augment.generator(1, 0, 0)
    )
    assert out.shape == (16, 32, 20)
    assert out.min() >= 0
    assert out.max() <= 255
    assert out_labels.sum(axis=1) == pytest.approx(1)
    assert ((out_labels > 0).sum(axis=1) <= 2).all()


def test_crop_takes_a_piece_as_it_is() -> None:
    images, _ = batch()
    out = augment.crop_and_stretch(images, augment.generator(3, 0, 0), 10, 0.0)
    for image, piece in zip(images, out, strict=True):
        assert any((image[:, s : s + 10] == piece).all() for s in range(31))


def test_stretch_changes_the_tempo() -> None:
    ramp = np.broadcast_to(np.arange(1, 201, dtype=np.float32), (200, 8, 200))
    out = augment.crop_and_stretch(ramp, augment.generator(3, 0, 0), 100, 0.25)
    tempo = (out[:, 0, 99] - out[:, 0, 0]) / 99  # a ramp's slope is the tempo
    assert tempo.min() >= 1 / 1.25 - 1e-3
    assert tempo.max() <= 1.25 + 1e-3
    assert tempo.std() > 0.1
    too_long = augment.crop_and_stretch(ramp, augment.generator(3, 0, 0), 200, 0.25)
    assert (too_long[:, :, -1] == 0).any(), "what lies beyond the recording is black"


def test_warp_moves_bands_not_columns() -> None:
    images = np.zeros((50, 64, 4), np.float32)
    images[:, 32] = 200
    out = augment.warp_frequency(images, augment.generator(1, 0, 0), 0.2)
    peak = out[:, :, 0].argmax(axis=1)
    assert len(set(peak.tolist())) > 5
    assert np.abs(peak - 32).max() <= 0.2 * 64
    assert (out == out[:, :, :1]).all()


def test_equaliser_and_noise_leave_padding_black() -> None:
    images, _ = batch()
    images[:, :, 30:] = 0
    out = augment.equalise(images.astype(np.float32), augment.generator(1, 0, 0), 30)
    assert (out[:, :, 30:] == 0).all()
    assert (out[:, :, :30] != images[:, :, :30]).mean() > 0.5
    noisy = augment.add_noise(images.astype(np.float32), augment.generator(1, 0, 0), 1.0, 200.0)
    assert (noisy[:, :, 30:] == 0).all()
    assert (noisy >= images).all()
    assert (noisy > images).any(axis=(1, 2)).mean() > 0.5


@pytest.mark.parametrize("axis", [1, 2])
def test_masks_are_stripes(axis: int) -> None:
    images = np.full((40, 32, 30), 9, np.float32)
    out = augment.mask(images, augment.generator(1, 0, 0), axis, 2, 6)
    across = out.any(axis=3 - axis)  # (batch, length)
    assert (out.all(axis=3 - axis) == across).all(), "a row or column is masked whole or not at all"
    assert ((~across).sum(axis=1) <= 12).all()
    assert (~across).any()
    wider_than_image = augment.mask(np.ones((3, 4, 5), np.float32), augment.generator(1, 0, 0), axis, 1, 99)
    assert wider_than_image.shape == (3, 4, 5)


def test_mixup_keeps_the_larger_share_first() -> None:
    images = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((8, 2, 2), np.float32)
    labels = np.eye(8, dtype=np.float32)
    mixed, soft = augment.mixup(images, labels, augment.generator(1, 0, 0), 0.5)
    assert (soft.argmax(axis=1) == np.arange(8)).all()
    assert mixed[:, 0, 0] == pytest.approx(soft @ np.arange(8))
