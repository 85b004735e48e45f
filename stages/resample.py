"""resample: data/decoded -> data/resampled/*.h5, mono 16-bit PCM at one rate for all.

soxr's band-limited interpolation, block by block; the blocks change no sample of the result.
https://sourceforge.net/p/soxr/wiki/Home/
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from stages.pipeline.data_params import ResampleParams
from stages.pipeline.params import Params
from stages.pipeline.runner import map_shards
from stages.pipeline.shards import Item, Shard, Signal, blocks_of
from stages.pipeline.stage_main import stage_main
from stages.pipeline.step import Step

ITEM = Item(shape=(), dtype="int16")
# One read of the shard, and what soxr gets at once: so little that it stays in the processor's cache.
_READ_SAMPLES = 1 << 20
_BLOCK_SAMPLES = 1 << 14


def resample(samples: np.ndarray, from_hz: float, params: ResampleParams) -> np.ndarray:
    """PCM at another rate.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=int16]
    from_hz : their sample rate

    Returns
    -------
    np.ndarray [shape=(about n * params.rate_hz / from_hz,), dtype=int16]
    """
    return np.concatenate(list(resample_blocks([samples], from_hz, params)))


def resample_blocks(blocks: Iterable[np.ndarray], from_hz: float, params: ResampleParams) -> Iterator[np.ndarray]:
    """The same, piece by piece."""
    if from_hz == params.rate_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, params.rate_hz, 1, dtype="float32", quality=params.quality)
    for block in blocks:
        parts = [stream.resample_chunk(part.astype(np.float32)) for part in blocks_of(block, _BLOCK_SAMPLES)]
        yield np.concatenate([_round(part) for part in parts])
    yield _round(stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _round(samples: np.ndarray) -> np.ndarray:
    # The filter can overshoot full scale by a little; wrapped around, that would be a loud click.
    np.clip(samples, -32768, 32767, out=samples)
    rounded: np.ndarray = np.rint(samples, out=samples).astype(np.int16)
    return rounded


@dataclass(frozen=True)
class ResampleClip:
    params: ResampleParams

    def __call__(self, shard: Shard, i: int) -> Signal:
        blocks = blocks_of(shard.view(i), _READ_SAMPLES)
        return Signal(self.params.rate_hz, resample_blocks(blocks, float(shard.rates_hz[i]), self.params))


def _libraries() -> dict[str, str]:
    return {"soxr": soxr.__libsoxr_version__}


def run(params: Params) -> None:
    step = Step(
        "resample",
        Path("data/resampled"),
        (__name__,),
        ITEM,
        (params.resample,),
        _libraries,
    )
    map_shards(step, Path("data/decoded"), ResampleClip(params.resample), params)


if __name__ == "__main__":
    sys.exit(stage_main("resample"))
