"""resample, logmel and resize against independent references."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import soxr
from conftest import make_params, speech_like
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.logmel import band_edges, band_filters, log_mel
from stages.resample import resample, resample_blocks
from stages.resize import area_weights, resize_to_image, window_starts

PARAMS = make_params()


def pcm(seed: int, seconds: float, rate_hz: int) -> np.ndarray:
    return np.asarray(np.rint(20000 * speech_like(seed, seconds, rate_hz)), np.int16)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_resampled_tone_is_the_tone_at_the_new_rate(rate_hz: int) -> None:
    seconds, tone_hz, level = 1.0, 1000, 20000
    samples = level * np.sin(2 * np.pi * tone_hz * np.arange(int(rate_hz * seconds)) / rate_hz)
    result = resample(np.rint(samples).astype(np.int16), rate_hz, PARAMS.resample)
    assert abs(len(result) - 16000) <= 1
    expected = level * np.sin(2 * np.pi * tone_hz * np.arange(len(result)) / 16000)
    middle = slice(1000, -1000)  # the filter rings at the cut ends
    assert np.abs(result[middle] - expected[middle]).max() <= 3  # two roundings of half a step, and the pass band


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=6), st.sampled_from([8000, 44100, 48000]))
def test_blocks_change_no_sample(sizes: list[int], rate_hz: int) -> None:
    samples = pcm(1, sum(sizes) / rate_hz + 1e-3, rate_hz)[: sum(sizes)]
    blocks = np.split(samples, np.cumsum(sizes)[:-1])
    np.testing.assert_array_equal(
        np.concatenate(list(resample_blocks(blocks, rate_hz, PARAMS.resample))),
        resample(samples, rate_hz, PARAMS.resample),
    )


def test_resample_agrees_with_soxr_at_once() -> None:
    samples = pcm(2, 2.0, 44100)
    expected = soxr.resample(samples.astype(np.float64), 44100, 16000, "HQ")
    result = resample(samples, 44100, PARAMS.resample)
    assert np.abs(result - expected).max() < 0.6  # one rounding, and float32


def test_overshoot_does_not_wrap_around() -> None:
    square = np.where(np.arange(44100) % 100 < 50, 32767, -32768).astype(np.int16)
    result = resample(square, 44100, PARAMS.resample)
    assert np.abs(np.diff(result.astype(int))).max() < 60_000  # wrapped around, a step would be 65,535
    assert result.max() == 32767


@pytest.mark.parametrize(("n_mels", "n_fft", "fmin_hz"), [(192, 1024, 50), (64, 512, 0), (40, 400, 300)])
def test_filters_are_librosas(n_mels: int, n_fft: int, fmin_hz: float) -> None:
    params = make_params(logmel={"n_mels": n_mels, "n_fft": n_fft, "hop_length": 160, "fmin_hz": fmin_hz}).logmel
    expected = librosa.filters.mel(sr=16000, n_fft=n_fft, n_mels=n_mels, fmin=fmin_hz, fmax=8000)
    ours = band_filters(16000, params).toarray()
    filled = expected.any(axis=1)  # librosa leaves bands narrower than a bin empty
    np.testing.assert_allclose(ours[filled], expected[filled], atol=1e-7)
    assert ours.any(axis=1).all()


@pytest.mark.filterwarnings("ignore:Empty filters")  # librosa's; ours take the nearest bin
def test_log_mel_is_librosas() -> None:
    samples, params = pcm(3, 3.0, 16000), PARAMS.logmel
    spectrum = librosa.stft(
        samples / 32768, n_fft=params.n_fft, hop_length=params.hop_length, center=True, pad_mode="constant"
    )
    filters = librosa.filters.mel(sr=16000, n_fft=params.n_fft, n_mels=192, fmin=50, fmax=8000)
    filled = filters.any(axis=1)
    expected = 10 * np.log10(np.maximum(filters @ np.abs(spectrum) ** 2, 10 ** (params.floor_db / 10))).T
    result = log_mel(samples, 16000, params)
    assert result.shape == (1 + len(samples) // params.hop_length, params.n_mels)
    # float16 holds numbers up to 128 in steps of 1/16: half a step, and float32's rounding
    assert np.abs(result.astype(float) - expected)[:, filled].max() < 1 / 32 + 1e-3


@pytest.mark.parametrize("seconds", [0.05, 0.5, 10.3, 31.0])
def test_log_mel_of_a_long_recording_is_that_of_its_parts(seconds: float) -> None:
    samples, params = pcm(4, seconds, 16000), PARAMS.logmel
    whole = log_mel(samples, 16000, params)
    assert len(whole) == 1 + len(samples) // params.hop_length
    t = len(whole) // 2  # one frame by hand
    centre, half = t * params.hop_length, params.n_fft // 2
    padded = np.pad(samples, half)[centre : centre + params.n_fft] / 32768
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(params.n_fft) / params.n_fft)
    power = np.abs(np.fft.rfft(padded * window)) ** 2
    expected = 10 * np.log10(np.maximum(band_filters(16000, params) @ power, 1e-10))
    assert np.abs(whole[t].astype(float) - expected).max() < 1 / 32 + 1e-3


def test_bytes_do_not_depend_on_blas(tmp_path: Path) -> None:
    """Found when two clones on one machine, one with OPENBLAS_CORETYPE set, made different images."""
    program = (
        "import hashlib, numpy as np\n"
        "from tests.test_features import PARAMS, pcm\n"
        "from stages.logmel import log_mel\n"
        "from stages.resize import resize_to_image\n"
        "bands = log_mel(pcm(5, 30, 16000), 16000, PARAMS.logmel)\n"
        "images = resize_to_image(bands, 50.0, PARAMS.resize.model_copy(update={'height': 96}))\n"
        "print(hashlib.sha256(bands.tobytes() + images.tobytes()).hexdigest())\n"
    )
    settings = [{"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_NUM_THREADS": "2"}]
    root = Path(__file__).parent.parent
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", **values},
            capture_output=True, text=True, check=True,
        ).stdout
        for values in settings
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("axis", ["mel", "log", "linear"])
def test_axes_are_evenly_spaced(axis: str) -> None:
    edges = band_edges(make_params(logmel={"axis": axis}).logmel)
    on_axis = np.asarray({"mel": librosa.hz_to_mel(edges), "log": np.log(edges), "linear": edges}[axis])
    np.testing.assert_allclose(np.diff(on_axis), np.diff(on_axis).mean(), rtol=1e-6)
    assert edges[0] == pytest.approx(50)
    assert edges[-1] == pytest.approx(8000)


@given(st.integers(1, 300), st.integers(1, 300))
def test_area_weights_are_means_that_skip_nothing(inputs: int, outputs: int) -> None:
    weights = area_weights(inputs, outputs).toarray().astype(float)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), outputs / inputs, rtol=1e-4)


def test_image_is_the_area_mean() -> None:
    rng = np.random.default_rng(0)
    params = make_params(resize={"height": 24, "width": 50, "window_seconds": 10, "range_db": 80}).resize
    loud = rng.uniform(-70, 0, (500, 192)).astype(np.float16)
    image = resize_to_image(loud, 50.0, params)
    blocks = loud.astype(float).reshape(50, 10, 24, 8).mean(axis=(1, 3)).T  # (height, width)
    expected = np.clip((blocks - blocks.max() + 80) / 80, 0, 1) * 255
    assert image.shape == (1, 24, 50, 1)
    assert np.abs(image[0, :, :, 0] - expected).max() <= 0.51
    assert image.max() == 255


@pytest.mark.parametrize(("intensity", "per_decade"), [("amplitude", 20), ("power", 10)])
def test_linear_image_is_the_mean_of_amplitude_or_power(intensity: str, per_decade: int) -> None:
    params = make_params(resize={"height": 24, "width": 50, "window_seconds": 10, "intensity": intensity}).resize
    loud = np.random.default_rng(0).uniform(-30, 0, (500, 192)).astype(np.float16)
    blocks = (10 ** (loud.astype(float) / per_decade)).reshape(50, 10, 24, 8).mean(axis=(1, 3)).T  # (height, width)
    image = resize_to_image(loud, 50.0, params)
    assert np.abs(image[0, :, :, 0] - 255 * blocks / blocks.max()).max() <= 0.51
    assert image.max() == 255


@pytest.mark.parametrize("intensity", ["log", "amplitude", "power"])
def test_image_does_not_depend_on_loudness(intensity: str) -> None:
    params = make_params(resize={"intensity": intensity}).resize
    quiet = np.random.default_rng(1).uniform(-90, -60, (500, 192)).astype(np.float32)
    np.testing.assert_array_equal(resize_to_image(quiet, 50.0, params), resize_to_image(quiet + 32, 50.0, params))


def test_short_clip_is_padded_and_not_stretched() -> None:
    half = np.zeros((round(PARAMS.resize.window_seconds * 25), 192), np.float32)
    image = resize_to_image(half, 50.0, PARAMS.resize)
    assert image.shape == (1, 192, 192, 1)
    assert (image[0, :, :96] == 255).all()
    assert (image[0, :, 96:] == 0).all()


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(1, 600))
def test_windows_lie_inside_and_reach_both_ends(frames: int, size: int, stride: int) -> None:
    starts = window_starts(frames, size, stride)
    assert starts[0] == 0
    assert all(0 <= start <= max(0, frames - size) for start in starts)
    assert starts == sorted(starts)
    if len(starts) > 1:
        assert starts[-1] == frames - size
        assert np.diff(starts).max() <= 1.5 * stride + 1


def test_an_hour_gives_an_image_for_each_stride(tmp_path: Path) -> None:
    assert len(window_starts(180_000, 500, 500)) == 360
