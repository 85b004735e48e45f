"""A trained model, ready for recordings: sound in, languages with probabilities out.

The exported model (models/export) is used where there is one: it runs without TensorFlow and is ready in half a second.
The trained one (models/calibrated) goes the way of the pipeline itself, function by function, so it gives exactly what
the evaluate stage scored; the two agree within 0.01 (tests/test_predict.py, and the export stage checks it).
Either is loaded by the first `Recognizer`, not by this import.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.onnx_model import ONNX_NAME, OnnxModel
from app.recordings import check_recording
from stages.pipeline.errors import RejectedClip, StorageError

if TYPE_CHECKING:
    from app.keras_model import KerasModel

EXPORT = Path("models/export")
MODEL = Path("models/calibrated")
UNKNOWN = "unknown"
_MODEL_FILES = ("model.json", "model.weights.h5")
_TINY = 1e-12  # as in stages/learning/metrics.py


@dataclass(frozen=True)
class Recognition:
    """What a model says of one recording.

    ranking : (language, probability) of all languages of the model, most probable first; they sum to 1.
    threshold : where the best probability is lower, the answer is "unknown"; None: there is no such answer.
    windows : images that the recording was cut into.
    seconds : length of the decoded sound.
    """

    ranking: tuple[tuple[str, float], ...]
    windows: int
    seconds: float
    threshold: float | None = None

    @property
    def language(self) -> str:
        """The most probable language, or `unknown`."""
        if self.threshold is not None and self.probability < self.threshold:
            return UNKNOWN
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        """Of the most probable language."""
        return self.ranking[0][1]


class Recognizer:
    """Loads a model once; `recognize` then takes as many recordings as there are.

    Parameters
    ----------
    folder : a model as the export, calibrate or train stage writes it; models/export by default, or models/calibrated
        where nothing was exported

    Raises
    ------
    StorageError
        There is no model, or a file of it cannot be read.
    PipelineError
        The files are none of ours, or don't belong together.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = default_model() if folder is None else folder
        check_model(folder)
        self._model: OnnxModel | KerasModel
        if (folder / ONNX_NAME).is_file():
            self._model = OnnxModel(folder)
        else:
            from app.keras_model import KerasModel  # imports TensorFlow: seconds

            self._model = KerasModel(folder)

    @property
    def languages(self) -> tuple[str, ...]:
        return self._model.languages

    def recognize(self, path: str | Path) -> Recognition:
        """The languages of one recording.

        Raises
        ------
        RejectedClip
            It cannot be used; reason codes as in quarantine.csv.
        """
        check_recording(path)
        return self._ranked(*self._model.probabilities_of(path))

    def recognize_all(self, paths: Iterable[str | Path]) -> Iterator[Recognition | RejectedClip]:
        """The same for many, in order; for one that cannot be used, why. An exported model uses all cores."""
        threads = usable_cores() if self._model.parallel else 1
        pool = ThreadPoolExecutor(threads)
        ahead: deque[Future[Recognition | RejectedClip]] = deque()
        try:
            for path in paths:
                ahead.append(pool.submit(self._attempt, path))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _attempt(self, path: str | Path) -> Recognition | RejectedClip:
        try:
            return self.recognize(path)
        except RejectedClip as fault:
            return fault

    def _ranked(self, probabilities: np.ndarray, seconds: float) -> Recognition:
        """Mean of the windows' log-probabilities, as `stages.learning.metrics` pools and tempers them."""
        mean = np.log(np.maximum(probabilities.astype(np.float64), _TINY)).mean(axis=0) / self._model.temperature
        likelihood = np.exp(mean - mean.max())  # (languages,)
        shares = likelihood / likelihood.sum()
        order = np.argsort(-shares, kind="stable")
        ranking = tuple((self.languages[i], float(shares[i])) for i in order)
        return Recognition(ranking, len(probabilities), seconds, self._model.unknown_threshold)


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
