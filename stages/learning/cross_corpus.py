"""A model's score on a corpus that nothing of was in training: among all its languages, and among the corpus's own.

A corpus seldom holds the very languages of the model. Clips in other languages are left out. "Open" is the answer among
all languages that the model knows, as it is given to a user. "Closed" lets only those languages compete that the corpus
has clips of, their probabilities normalised again: it asks less of the model and is never lower but by ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.learning.dataset import index_windows
from stages.learning.scoring import Scored, score_clips
from stages.pipeline.errors import SplitError, StorageError
from stages.pipeline.manifest_table import Row, read_manifest


@dataclass(frozen=True)
class ExtraCorpus:
    """scored : calibrated scores of its clips in languages that the model knows.

    n_heard, n_foreign : clips left out, byte for byte in training or validation, or in a language that is not known
    """

    scored: Scored
    n_heard: int
    n_foreign: int

    @property
    def present(self) -> np.ndarray:
        """Numbers of the languages that it has clips of."""
        return np.unique(self.scored.labels)

    @property
    def right(self) -> np.ndarray:
        """(clips,) bool, open set."""
        out: np.ndarray = self.scored.predicted == self.scored.labels
        return out

    @property
    def right_closed(self) -> np.ndarray:
        """(clips,) bool, closed set."""
        out: np.ndarray = self.present[self.scored.scores[:, self.present].argmax(axis=1)] == self.scored.labels
        return out


def read_extra_corpus(
    folder: Path, model: Any, languages: Sequence[str], temperature: float, own: Sequence[Row], batch_size: int
) -> ExtraCorpus:
    """Score what the extra stage left in `folder`.

    own : the manifest that the model was trained on

    Raises
    ------
    StorageError
        The folder is missing or damaged.
    SplitError
        No clip is in a language of the model, or training has heard all of them.
    """
    if not (folder / "manifest.csv").is_file():
        raise StorageError(f"expected {folder}, which the extra stage writes; run `dvc repro` or look at `dvc status`")
    rows = read_manifest(folder / "manifest.csv")
    learnt = {row.sha256 for row in own if row.split in ("train", "validation")}
    known = [row for row in rows if row.language in languages]
    fresh = [row for row in known if row.sha256 not in learnt]
    windows = index_windows(folder, fresh, languages, "test")
    if not len(windows):
        raise SplitError(
            f"evaluate.extra_corpora: expected recordings in {', '.join(list(languages)[:10])} in {folder}, found "
            f"{len(rows)} in {', '.join(sorted({row.language for row in rows})[:10])}, {len(known) - len(fresh)} of "
            "them in training too; name another corpus"
        )
    scored = score_clips(model, windows, languages, batch_size).tempered(temperature)
    return ExtraCorpus(scored, len(known) - len(fresh), len(rows) - len(known))
