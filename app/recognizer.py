"""A trained model, ready for recordings: sound in, languages with probabilities out.

The exported model (models/export) is used where there is one: it runs without TensorFlow and is ready in half a second.
The trained one (models/calibrated) goes the way of the pipeline itself, function by function, so it gives exactly what
the evaluate stage scored; the two agree within 0.01 (tests/test_predict.py, and the export stage checks it).
Either is loaded by the first `Recognizer`, not by this import.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.onnx_model import ONNX_NAME, OnnxModel
from app.recordings import check_recording
from app.speech import seconds_within, speech_stretches
from app.timeline import Segment, Step, pooled, segments_of, steps_of
from stages.pipeline.errors import ParamsError, RejectedClip, StorageError

if TYPE_CHECKING:
    from app.keras_model import KerasModel
    from app.sound import Samples

EXPORT = Path("models/export")
MODEL = Path("models/calibrated")
UNKNOWN = "unknown"
NO_SPEECH = "no_speech"
_LEAST_SPEECH = 0.3  # seconds; less says nothing of a language
_AT_ONCE = 16  # pieces of a long recording that a thread asks about before it tells how far it is
_HEARD = 0.25  # of the work on a long recording: reading, finding speech
_MODEL_FILES = ("model.json", "model.weights.h5")
_TINY = 1e-12  # as in stages/learning/metrics.py


@dataclass(frozen=True)
class Recognition:
    """What a model says of one recording.

    ranking : (language, probability), most probable first, of all languages that were asked about; they sum to 1.
        Empty where nobody speaks.
    windows : images of the recording that were asked about.
    seconds : length of the decoded sound.
    threshold : where the best probability is lower, the answer is "unknown"; None: there is no such answer.
    speech_seconds : how much of it is speech.
    segments : the speech, in order, with the language of each part; silence and music are in none.
    """

    ranking: tuple[tuple[str, float], ...]
    windows: int
    seconds: float
    threshold: float | None = None
    speech_seconds: float = 0.0
    segments: tuple[Segment, ...] = ()

    @property
    def language(self) -> str:
        """The most probable language, `unknown`, or `no_speech`."""
        if not self.ranking:
            return NO_SPEECH
        if self.threshold is not None and self.probability < self.threshold:
            return UNKNOWN
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        """Of the most probable language; 0 where nobody speaks."""
        return self.ranking[0][1] if self.ranking else 0.0


class Recognizer:
    """Loads a model once; `recognize` then takes as many recordings as there are.

    Parameters
    ----------
    folder : a model as the export, calibrate or train stage writes it; models/export by default, or models/calibrated
        where nothing was exported
    all_sound : take all sound for speech, for recordings that the speech detector doesn't fit (singing, say)

    Raises
    ------
    StorageError
        There is no model, or a file of it cannot be read.
    PipelineError
        The files are none of ours, or don't belong together.
    """

    def __init__(self, folder: Path | None = None, *, all_sound: bool = False) -> None:
        folder = default_model() if folder is None else folder
        check_model(folder)
        self.folder, self.all_sound = folder, all_sound
        self.model: OnnxModel | KerasModel
        if (folder / ONNX_NAME).is_file():
            self.model = OnnxModel(folder)
        else:
            from app.keras_model import KerasModel  # imports TensorFlow: seconds

            self.model = KerasModel(folder)
        self._pool = ThreadPoolExecutor(usable_cores()) if self.model.parallel else None  # no thread yet

    @property
    def languages(self) -> tuple[str, ...]:
        return self.model.languages

    def recognize(
        self,
        path: str | Path,
        languages: Sequence[str] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recognition:
        """The languages of one recording.

        languages : answer with one of these only, their probabilities sum to 1
        progress : is told the share of the work that is done, now and then while a recording is long

        Raises
        ------
        RejectedClip
            It cannot be used; reason codes as in quarantine.csv.
        ParamsError
            The model doesn't know one of `languages`.
        """
        from app.sound import read_samples

        allowed = self.allowed(languages)
        check_recording(path)
        samples, seconds = read_samples(path, self.model.sound)
        return self.recognize_samples(samples, seconds, allowed, progress)

    def recognize_samples(
        self,
        samples: Samples,
        seconds: float,
        languages: Sequence[str] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recognition:
        """The same of (n,) int16 at the model's sample rate, `model.sound.rate_hz`."""
        allowed = self.allowed(languages)
        rate_hz = self.model.sound.rate_hz

        def hearing(share: float) -> None:
            if progress:
                progress(_HEARD * share)

        stretches = [(0.0, seconds)] if self.all_sound else speech_stretches(samples, rate_hz, hearing)
        hearing(1.0)
        spoken = sum(end - start for start, end in stretches)
        if spoken < _LEAST_SPEECH:
            return Recognition((), 0, seconds, self.model.unknown_threshold)
        window = self.model.window_samples
        starts = self.model.window_starts(len(samples))
        heard = [s for s in starts if seconds_within(stretches, s / rate_hz, (s + window) / rate_hz) >= _LEAST_SPEECH]
        shares = self.restricted(self.model.probabilities(samples, heard or starts[:1]), allowed)
        whole = pooled(shares)
        order = np.argsort(-whole, kind="stable")
        ranking = tuple((allowed[i], float(whole[i])) for i in order)
        if len(starts) == 1:  # the answer for the whole is that for each part
            steps = [Step(start, end, (start, end)) for start, end in stretches]
            probabilities = np.repeat(whole[None], len(steps), axis=0)
        else:
            steps = steps_of(stretches)
            pieces = [(int(step.window[0] * rate_hz), int(step.window[1] * rate_hz)) for step in steps]
            probabilities = self.restricted(self._of_pieces(samples, pieces, progress), allowed)
        segments = segments_of(steps, probabilities, allowed, self.model.unknown_threshold, UNKNOWN)
        return Recognition(ranking, len(heard), seconds, self.model.unknown_threshold, spoken, segments)

    def _of_pieces(
        self, samples: Samples, pieces: list[tuple[int, int]], progress: Callable[[float], None] | None
    ) -> np.ndarray:
        """(pieces, languages), all cores at work where the model lets them."""
        parts = [pieces[first : first + _AT_ONCE] for first in range(0, len(pieces), _AT_ONCE)]
        if len(parts) == 1 or self._pool is None:
            return self.model.probabilities_of_pieces(samples, pieces)
        waiting = [self._pool.submit(self.model.probabilities_of_pieces, samples, part) for part in parts]
        try:
            found = []
            for one in waiting:
                found.append(one.result())
                if progress:
                    progress(_HEARD + (1 - _HEARD) * len(found) / len(parts))
            return np.concatenate(found)
        finally:
            for one in waiting:
                one.cancel()

    def allowed(self, languages: Sequence[str] | None) -> tuple[str, ...]:
        """The languages that may be answered, in the model's order. Raises ParamsError where it doesn't know one."""
        if not languages:
            return self.languages
        strange = sorted(set(languages) - set(self.languages))
        if strange:
            raise ParamsError(
                f"expected languages of the model, received {', '.join(strange)}; it knows {', '.join(self.languages)}"
            )
        return tuple(language for language in self.languages if language in set(languages))

    def restricted(self, probabilities: np.ndarray, allowed: tuple[str, ...]) -> np.ndarray:
        """(windows, languages) -> (windows, allowed), each row summing to 1 again."""
        columns = np.maximum(probabilities[:, [self.languages.index(one) for one in allowed]].astype(np.float64), _TINY)
        shares: np.ndarray = columns / columns.sum(axis=1, keepdims=True)
        return shares

    def recognize_all(
        self, paths: Iterable[str | Path], languages: Sequence[str] | None = None
    ) -> Iterator[Recognition | RejectedClip]:
        """The same for many, in order; for one that cannot be used, why. An exported model uses all cores."""
        threads = usable_cores() if self.model.parallel else 1
        stopped = threading.Event()

        def go_on(_share: float) -> None:
            if stopped.is_set():  # who asked has left; a long recording would keep the process for minutes
                raise CancelledError

        pool = ThreadPoolExecutor(threads)
        ahead: deque[Future[Recognition | RejectedClip]] = deque()
        try:
            for path in paths:
                ahead.append(pool.submit(self.attempt, path, languages, go_on))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def attempt(
        self,
        path: str | Path,
        languages: Sequence[str] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recognition | RejectedClip:
        """`recognize`, or why the recording cannot be used."""
        try:
            return self.recognize(path, languages, progress)
        except RejectedClip as fault:
            return fault


def usable_cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_model() -> Path:
    """The exported model's folder, or the trained one's where nothing was exported."""
    return EXPORT if (EXPORT / ONNX_NAME).is_file() else MODEL


def stale_export() -> bool:
    """Whether models/export was made from other files than those in models/calibrated now."""
    files = [MODEL / name for name in _MODEL_FILES]
    if not (EXPORT / ONNX_NAME).is_file() or not all(path.is_file() for path in files):
        return False
    exported = (EXPORT / ONNX_NAME).read_bytes()
    for path in files:
        with path.open("rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest().encode() not in exported:
                return True
    return False


def check_model(folder: Path) -> None:
    """Raises StorageError where there is no model, before anything is loaded."""
    if (folder / ONNX_NAME).is_file():
        return
    missing = [name for name in _MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise StorageError(
            f"expected a trained model in {folder}, found no {ONNX_NAME} and no {' and no '.join(missing)}; run "
            "`make repro` first or name one with --model"
        )
