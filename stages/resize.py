"""resize: data/logmel -> data/features/*.h5, images for the network: uint8 (windows, height, width, 1).

Each window of a recording becomes one image. A pixel is the mean over its area (no frame is skipped); 255 is the
window's peak, 0 is `range_db` below it or less. So the image doesn't depend on how loud the recording is.
For comparison, `intensity` makes pixels proportional to the sound's amplitude or power instead of its level in dB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy  # its submodules are imported where they are first used: half of this stage's start

from stages.pipeline.data_params import ResizeParams
from stages.pipeline.params import Params
from stages.pipeline.runner import map_shards
from stages.pipeline.shards import ClipView, Item, Shard, Signal
from stages.pipeline.stage_main import stage_main
from stages.pipeline.step import Step

DB_PER_DECADE = {"amplitude": np.float32(20), "power": np.float32(10)}


def resize_to_image(log_mel: np.ndarray | ClipView, frames_per_second: float, params: ResizeParams) -> np.ndarray:
    """Images of one clip.

    Parameters
    ----------
    log_mel : np.ndarray [shape=(frames, bands)], dB
    frames_per_second : of log_mel

    Returns
    -------
    np.ndarray [shape=(windows, height, width, 1), dtype=uint8]; row 0 is the lowest band, time runs along the width;
    a clip shorter than the window is followed by zeros
    """
    return np.concatenate(list(image_blocks(log_mel, frames_per_second, params)))


def image_blocks(
    log_mel: np.ndarray | ClipView, frames_per_second: float, params: ResizeParams
) -> Iterator[np.ndarray]:
    """The same, one window at a time: (1, height, width, 1)."""
    size = max(1, round(params.window_seconds * frames_per_second))
    stride = max(1, round(params.stride_seconds * frames_per_second))
    for start in window_starts(len(log_mel), size, stride):
        part = np.asarray(log_mel[start : start + size], np.float32)  # (frames, bands)
        if params.intensity != "log":
            part = np.float32(10) ** ((part - part.max()) / DB_PER_DECADE[params.intensity])  # peak 1
        columns = max(1, round(params.width * len(part) / size))
        image = area_weights(len(part), columns) @ part  # (columns, bands)
        if part.shape[1] != params.height:
            image = (area_weights(part.shape[1], params.height) @ image.T).T
        if params.intensity == "log":
            image += params.range_db - image.max()
            pixels = np.rint(np.maximum(image, 0) * np.float32(255 / params.range_db))
        else:
            pixels = np.rint(image * (255 / image.max()))
        out = np.zeros((1, params.height, params.width, 1), np.uint8)
        out[0, :, :columns, 0] = pixels.T
        yield out


def window_starts(frames: int, size: int, stride: int) -> list[int]:
    """First frames of the windows: evenly spread from the start to the end of the clip, about `stride` apart."""
    if frames <= size:
        return [0]
    count = 1 + round((frames - size) / stride)
    return [round(start) for start in np.linspace(0, frames - size, count)]


@cache
def area_weights(inputs: int, outputs: int) -> scipy.sparse.csr_array:
    """Weights of the mean over equal areas; sparse for the reasons that `stages.logmel.band_filters` gives.

    Returns
    -------
    scipy.sparse.csr_array [shape=(outputs, inputs), dtype=float32]; row i covers the interval
    [i, i + 1) * inputs / outputs, with a share of the inputs at its ends; each row sums to 1
    """
    edges = np.linspace(0, inputs, outputs + 1)
    cells = np.arange(inputs)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    weights = np.maximum(0, overlap) * (outputs / inputs)
    return scipy.sparse.csr_array(weights.astype(np.float32))


@dataclass(frozen=True)
class ResizeClip:
    params: ResizeParams

    def __call__(self, shard: Shard, i: int) -> Signal:
        return Signal(0.0, image_blocks(shard.view(i), float(shard.rates_hz[i]), self.params))


def _libraries() -> dict[str, str]:
    return {"scipy": scipy.__version__}


def run(params: Params) -> None:
    item = Item(shape=(params.resize.height, params.resize.width, 1), dtype="uint8", per_chunk=1)
    step = Step("resize", Path("data/features"), (__name__,), item, (params.resize,), _libraries)
    map_shards(step, Path("data/logmel"), ResizeClip(params.resize), params)


if __name__ == "__main__":
    sys.exit(stage_main("resize"))
