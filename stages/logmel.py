"""logmel: data/resampled -> data/logmel/*.h5, band energies in dB: float16 (frames, n_mels).

Hann window, short-time Fourier transform, triangular bands of equal area (Slaney's Auditory Toolbox, as in
librosa.filters.mel, which the tests compare with), 10 log10. The bands' centres are spaced evenly on the mel axis, or,
for comparison, on a logarithmic or a linear frequency axis. The filters are made here because importing librosa takes
longer than a hundred clips.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy  # its submodules are imported where they are first used: half of this stage's start

from stages.pipeline.data_params import LogmelParams
from stages.pipeline.params import Params
from stages.pipeline.runner import map_shards
from stages.pipeline.shards import ClipView, Item, Shard, Signal
from stages.pipeline.stage_main import stage_main
from stages.pipeline.step import Step

# So few that a block stays in the processor's cache: with 512 the same work takes three times as long.
_FRAMES_PER_BLOCK = 64
_BLOCKS_PER_READ = 32
_FULL_SCALE = np.float32(32768)


def log_mel(samples: np.ndarray | ClipView, rate_hz: int, params: LogmelParams) -> np.ndarray:
    """Band energies of one clip.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=int16], or a view of a clip
    rate_hz : their sample rate

    Returns
    -------
    np.ndarray [shape=(1 + n // hop_length, n_mels), dtype=float16], dB; frame t is centred on sample
    t * hop_length, what lies beyond the ends counts as silence
    """
    return np.concatenate(list(log_mel_blocks(samples, rate_hz, params)))


def log_mel_blocks(samples: np.ndarray | ClipView, rate_hz: int, params: LogmelParams) -> Iterator[np.ndarray]:
    """The same, some two thousand frames at a time."""
    n_fft, hop = params.n_fft, params.hop_length
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    window = hann.astype(np.float32) / _FULL_SCALE
    filters = band_filters(rate_hz, params)  # (bands, bins)
    floor, ten = np.float32(10 ** (params.floor_db / 10)), np.float32(10)
    frames = 1 + len(samples) // hop
    at_once = _FRAMES_PER_BLOCK * _BLOCKS_PER_READ
    for first in range(0, frames, at_once):
        count = min(at_once, frames - first)
        begin = first * hop - n_fft // 2
        end = begin + (count - 1) * hop + n_fft
        padded = np.zeros(end - begin, np.float32)
        inside = slice(max(0, begin), min(len(samples), end))
        padded[inside.start - begin : inside.stop - begin] = samples[inside]
        framed = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]  # (frames, n_fft)
        out = np.empty((count, params.n_mels), np.float16)
        for start in range(0, count, _FRAMES_PER_BLOCK):
            block = slice(start, start + _FRAMES_PER_BLOCK)
            spectrum = scipy.fft.rfft(framed[block] * window, axis=1, overwrite_x=True)  # (frames, bins), complex64
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            energy = filters @ power.T  # (bands, frames)
            np.maximum(energy, floor, out=energy)
            np.log10(energy, out=energy)
            energy *= ten
            out[block] = energy.T
        yield out


@cache
def band_filters(rate_hz: int, params: LogmelParams) -> scipy.sparse.csr_array:
    """Triangular filters, each of area 1 over frequency in Hz.

    Sparse, for less work and for the same bytes everywhere: a dense product goes through BLAS, whose last bits depend
    on its choice of kernel and threads.

    Returns
    -------
    scipy.sparse.csr_array [shape=(n_mels, 1 + n_fft // 2), dtype=float32]
    """
    edges = band_edges(params)  # (n_mels + 2,)
    bins = np.fft.rfftfreq(params.n_fft, 1 / rate_hz)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    empty = ~filters.any(axis=1)
    if empty.any():  # narrower than a bin: take the nearest bin, or the row of the image would be black
        nearest = np.abs(bins[None, :] - edges[1:-1][empty, None]).argmin(axis=1)
        filters[np.flatnonzero(empty), nearest] = (2 / (edges[2:] - edges[:-2]))[empty]
    return scipy.sparse.csr_array(filters.astype(np.float32))


def band_edges(params: LogmelParams) -> np.ndarray:
    """Lower edge, centres and upper edge in Hz: (n_mels + 2,), evenly spaced on the axis."""
    low, high, points = params.fmin_hz, params.fmax_hz, params.n_mels + 2
    if params.axis == "linear":
        return np.linspace(low, high, points)
    if params.axis == "log":
        return np.geomspace(low, high, points)
    return mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), points))


# Slaney's mel scale: linear up to 1 kHz, 15 mels there, then logarithmic, 27 mels for a factor of 6.4.
_BREAK_HZ, _BREAK_MEL, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0


def hz_to_mel(hz: float) -> float:
    """Frequency in Hz -> mels."""
    if hz < _BREAK_HZ:
        return hz * _BREAK_MEL / _BREAK_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def mel_to_hz(mels: np.ndarray) -> np.ndarray:
    """Mels -> frequency in Hz, element by element."""
    high = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _BREAK_HZ / _BREAK_MEL, high)


@dataclass(frozen=True)
class LogmelClip:
    params: LogmelParams

    def __call__(self, shard: Shard, i: int) -> Signal:
        rate_hz = int(shard.rates_hz[i])
        blocks = log_mel_blocks(shard.view(i), rate_hz, self.params)
        return Signal(rate_hz / self.params.hop_length, blocks)


def _libraries() -> dict[str, str]:
    return {"scipy": scipy.__version__}


def run(params: Params) -> None:
    item = Item(shape=(params.logmel.n_mels,), dtype="float16")
    step = Step("logmel", Path("data/logmel"), (__name__,), item, (params.logmel,), _libraries)
    map_shards(step, Path("data/resampled"), LogmelClip(params.logmel), params)


if __name__ == "__main__":
    sys.exit(stage_main("logmel"))
