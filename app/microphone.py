"""Live sound in chunks: what is spoken in the last seconds, told every second.

`answers` takes blocks from anywhere: the microphone, a pipe, a socket of your own. What is remembered is one window of
the model, however long somebody talks.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from app.recognizer import Recognition, Recognizer
from stages.pipeline.errors import ParamsError, StorageError

if TYPE_CHECKING:
    from app.sound import Samples

_EVERY = 1.0  # seconds from answer to answer
_BLOCK = 0.25  # seconds that are read from a pipe at once
_FULL_SCALE = 32768


class Listener:
    """Takes blocks of live sound and answers for the last window of it, once a second.

    rate_hz : of the blocks; they are resampled to the model's

    Attributes
    ----------
    seconds : of sound that were heard so far
    """

    def __init__(self, recognizer: Recognizer, rate_hz: int, languages: Sequence[str] | None = None) -> None:
        import soxr

        self.recognizer, self.languages = recognizer, languages
        self._rate_hz = recognizer.model.sound.rate_hz
        self._stream = None
        if rate_hz != self._rate_hz:
            quality = recognizer.model.sound.quality
            self._stream = soxr.ResampleStream(rate_hz, self._rate_hz, 1, dtype="float32", quality=quality)
        self._heard = np.zeros(0, np.int16)
        self._fed_seconds, self._of_blocks_hz = 0.0, rate_hz
        self._total = self._new = 0  # samples at the model's rate

    @property
    def seconds(self) -> float:
        return self._fed_seconds

    def feed(self, block: np.ndarray) -> Recognition | None:
        """(n,) float32, full scale 1 -> an answer where a second has passed since the last one.

        Its segments' times are seconds since the first block; its `seconds` are those that it answers for.
        """
        self._fed_seconds += len(block) / self._of_blocks_hz
        block = np.asarray(block, np.float32)
        if not np.isfinite(block).all():  # a driver's hiccup must not spoil the seconds that follow
            block = np.nan_to_num(block, posinf=0, neginf=0)
        self._take(block if self._stream is None else self._stream.resample_chunk(block))
        return self._answer() if self._new >= _EVERY * self._rate_hz else None

    def finish(self) -> Recognition | None:
        """After the last block: the answer for what came since the last one, if anything did."""
        if self._stream is not None:  # it holds a tenth of a second back
            self._take(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return self._answer() if self._new else None

    def _take(self, block: np.ndarray) -> None:
        samples = np.clip(np.rint(block * np.float32(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
        self._heard = np.concatenate([self._heard, samples])[-self.recognizer.model.window_samples :]
        self._new += len(samples)
        self._total += len(samples)

    def _answer(self) -> Recognition:
        """For the last window, however little is new."""
        self._new = 0
        heard: Samples = self._heard
        length = len(heard) / self._rate_hz
        found = self.recognizer.recognize_samples(heard, length, self.languages)
        before = (self._total - len(heard)) / self._rate_hz
        segments = (replace(one, start=one.start + before, end=one.end + before) for one in found.segments)
        return replace(found, segments=tuple(segments))


def answers(
    recognizer: Recognizer, blocks: Iterable[np.ndarray], rate_hz: int, languages: Sequence[str] | None = None
) -> Iterator[tuple[float, Recognition]]:
    """(seconds heard so far, answer) every second and at the end; blocks are (n,) float32, full scale 1."""
    listener = Listener(recognizer, rate_hz, languages)
    for block in blocks:
        found = listener.feed(block)
        if found is not None:
            yield listener.seconds, found
    found = listener.finish()
    if found is not None:
        yield listener.seconds, found


def raw_blocks(source: BinaryIO, rate_hz: int) -> Iterator[np.ndarray]:
    """What arecord and ffmpeg write: 16-bit little-endian samples of one channel, without a header."""
    size = 2 * max(1, int(_BLOCK * rate_hz))
    rest = b""
    while data := source.read(size):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(_FULL_SCALE)


def microphone_blocks() -> tuple[int, Iterator[np.ndarray]]:
    """(rate_hz, blocks) of the system's default microphone.

    Raises
    ------
    ParamsError
        sounddevice is not installed.
    StorageError
        There is no microphone, or it cannot be opened.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, PortAudio isn't
        raise ParamsError(
            f"the microphone needs sounddevice and PortAudio ({error}); install them: pip install '.[microphone]', and "
            "on Debian apt install libportaudio2. Or pipe sound in: arecord -t raw -f S16_LE -r 16000 | ... --raw 16000"
        ) from None
    waiting: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

    def heard(block: np.ndarray, _frames: int, _time: Any, _status: Any) -> None:
        waiting.put(block[:, 0].copy())

    try:
        stream = sounddevice.InputStream(channels=1, dtype="float32", callback=heard)
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise StorageError(f"no microphone can be opened: {error}; look at the system's sound settings") from None

    def blocks() -> Iterator[np.ndarray]:
        with stream:
            while True:
                some = [waiting.get()]
                while not waiting.empty():  # a machine that is too slow answers seldomer, and doesn't fall behind
                    some.append(waiting.get())
                yield np.concatenate(some)

    return int(stream.samplerate), blocks()
