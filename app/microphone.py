"""Live sound in chunks: what is spoken in the last seconds, told every second."""

from __future__ import annotations

import queue
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.recognizer import Recognition, Recognizer
from stages.pipeline.errors import ParamsError, StorageError

if TYPE_CHECKING:
    from app.sound import Samples

_EVERY = 1.0  # seconds from answer to answer


class Listener:
    """Takes blocks of live sound and answers for the last window of it, once a second.

    rate_hz : of the blocks; they are resampled to the model's
    """

    def __init__(self, recognizer: Recognizer, rate_hz: int, languages: Sequence[str] | None = None) -> None:
        import soxr

        self.recognizer, self.languages = recognizer, languages
        own = recognizer.model.sound.rate_hz
        self._stream = None if rate_hz == own else soxr.ResampleStream(rate_hz, own, 1, dtype="float32")
        self._heard = np.zeros(0, np.int16)
        self._new = 0

    def feed(self, block: np.ndarray) -> Recognition | None:
        """(n,) float32, full scale 1 -> an answer where a second has passed since the last one."""
        block = np.asarray(block, np.float32)
        if self._stream is not None:
            block = self._stream.resample_chunk(block)
        samples = np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)
        self._heard = np.concatenate([self._heard, samples])[-self.recognizer.model.window_samples :]
        self._new += len(samples)
        rate_hz = self.recognizer.model.sound.rate_hz
        if self._new < _EVERY * rate_hz:
            return None
        self._new = 0
        heard: Samples = self._heard
        return self.recognizer.recognize_samples(heard, len(heard) / rate_hz, self.languages)


def listen(recognizer: Recognizer, languages: Sequence[str] | None = None) -> int:
    """Answer on standard output until Ctrl-C.

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
            "on Debian apt install libportaudio2"
        ) from None
    blocks: queue.Queue[np.ndarray] = queue.Queue()

    def heard(block: np.ndarray, _frames: int, _time: Any, _status: Any) -> None:
        blocks.put(block[:, 0].copy())

    try:
        with sounddevice.InputStream(channels=1, dtype="float32", callback=heard) as stream:
            listener = Listener(recognizer, int(stream.samplerate), languages)
            print("listening; Ctrl-C ends", file=sys.stderr)
            while True:
                found = listener.feed(blocks.get())
                if found is not None:
                    ranking = "  ".join(f"{name} {p:.2f}" for name, p in found.ranking[:3])
                    print(found.language if not found.ranking else ranking, flush=True)
    except sounddevice.PortAudioError as error:
        raise StorageError(f"no microphone can be opened: {error}; look at the system's sound settings") from None
