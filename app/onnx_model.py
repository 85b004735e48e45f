"""The exported model under onnxruntime: no TensorFlow, no HDF5, and loaded in a tenth of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.pipeline.errors import PipelineError, StorageError

if TYPE_CHECKING:
    from app.sound import Samples

ONNX_NAME = "model.onnx"
MOST_LANGUAGES = 10_000  # as in stages/learning/model_file.py
FORMAT = 1  # of stages/learning/onnx_graph.py
_WINDOWS_AT_ONCE = 4  # more at once is no faster
_FULL_SCALE = np.float32(32768)


@dataclass(frozen=True)
class WindowInput:
    """The metadata's `input`; stages/learning/front_end.py says what each number is."""

    rate_hz: int
    samples: int
    before: int
    hop_length: int
    frames: int
    stride_frames: int


class OnnxModel:
    """What stands in a folder that the export stage wrote.

    One window is too little work to share among cores: each call runs in the thread that makes it, and several
    threads may call.

    Raises
    ------
    StorageError
        The file cannot be read.
    PipelineError
        It is none of ours.
    """

    parallel = True

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        path = folder / ONNX_NAME
        onnxruntime.set_default_logger_severity(3)  # on start it warns of hardware that it does not find
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}; run `dvc checkout` or `dvc repro export`") from None
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            values = self._session.get_modelmeta().custom_metadata_map
            self.metadata: dict[str, Any] = {key: json.loads(text) for key, text in values.items()}
            if self.metadata["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, received {self.metadata['format']}")
            self.languages = tuple(str(one) for one in self.metadata["languages"])
            if not 1 <= len(self.languages) <= MOST_LANGUAGES:
                raise ValueError(f"expected 1 to {MOST_LANGUAGES} languages, received {len(self.languages)}")
            threshold = self.metadata["unknown_threshold"]
            self.unknown_threshold = None if threshold is None else float(threshold)
            self._window = WindowInput(**self.metadata["input"])
            self.sound = self._sound_settings()
        except Exception as error:  # onnxruntime's errors have no common class
            first = str(error).split("\n")[0][:300]
            raise PipelineError(
                f"{path} is not a model of this version: {type(error).__name__}: {first}. Run `dvc repro export`, or "
                "take the version of the code that made it"
            ) from None

    def _sound_settings(self) -> Any:
        from app.sound import MOST_SECONDS, SoundSettings

        decode, resample = self.metadata["features"]["decode"], self.metadata["features"]["resample"]
        return SoundSettings(
            rate_hz=int(resample["rate_hz"]),
            quality=str(resample["quality"]),
            min_seconds=float(decode["min_seconds"]),
            max_seconds=MOST_SECONDS,
            timeout_seconds=float(decode["timeout_seconds"]),
        )

    @property
    def window_samples(self) -> int:
        """Samples of a recording that fill one window."""
        return self._window.frames * self._window.hop_length

    def window_starts(self, count: int) -> list[int]:
        """First samples of the windows of a recording of `count` samples."""
        frames = 1 + count // self._window.hop_length
        starts = window_starts(frames, self._window.frames, self._window.stride_frames)
        return [start * self._window.hop_length for start in starts]

    def probabilities(self, samples: Samples, starts: list[int]) -> np.ndarray:
        """Of some of a recording's windows: (n,) int16 at the model's sample rate -> (windows, languages) float32."""
        size, before = self._window.samples, self._window.before

        def windows(some: list[int]) -> tuple[np.ndarray, list[int]]:
            out = np.zeros((len(some), size), np.float32)
            for row, start in zip(out, some, strict=True):
                begin = start - before
                part = samples[max(0, begin) : begin + size]
                row[max(0, -begin) :][: len(part)] = part
            return out, [len(samples) - start for start in some]

        return self._run(starts, windows)

    def probabilities_of_pieces(self, samples: Samples, pieces: list[tuple[int, int]]) -> np.ndarray:
        """The same of pieces, from and to which sample, as if each was a recording: (pieces, languages) float32."""
        before, most = self._window.before, self._window.samples - self._window.before

        def windows(some: list[tuple[int, int]]) -> tuple[np.ndarray, list[int]]:
            out = np.zeros((len(some), before + most), np.float32)
            for row, (start, end) in zip(out, some, strict=True):
                part = samples[start : min(end, start + most)]
                row[before:][: len(part)] = part
            return out, [end - start for start, end in some]

        return self._run(pieces, windows)

    def _run(self, which: list[Any], windows: Callable[[Any], tuple[np.ndarray, list[int]]]) -> np.ndarray:
        parts = []
        for first in range(0, len(which), _WINDOWS_AT_ONCE):
            made, lengths = windows(which[first : first + _WINDOWS_AT_ONCE])
            made /= _FULL_SCALE
            (found,) = self._session.run(None, {"samples": made, "lengths": np.array(lengths, np.int64)})
            parts.append(found)
        return np.concatenate(parts) if parts else np.zeros((0, len(self.languages)), np.float32)


def window_starts(frames: int, size: int, stride: int) -> list[int]:
    """First frames of the windows, as `stages.resize.window_starts` has them; a test compares the two."""
    if frames <= size:
        return [0]
    count = 1 + round((frames - size) / stride)
    return [round(start) for start in np.linspace(0, frames - size, count)]
