"""One file that holds a whole training run at the end of an epoch, so that a killed run goes on from there.

It lies outside the DVC outs (which DVC empties before a stage runs), under a key made of everything that the result
depends on: a run with other params, features, code or libraries never finds it. Arrays and plain JSON only: reading
one runs no code.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.pipeline.errors import StorageError
from stages.pipeline.files import sha256_of_file, sha256_of_json, sync

log = logging.getLogger(__name__)

CHECKPOINTS = Path("data/.checkpoints")
FORMAT = 1


@dataclass
class TrainingState:
    """All that a run needs in order to go on.

    epoch : epochs done
    variables : weights, moving statistics and seed-generator states, in the model's order
    optimizer : the optimizer's variables, in its order
    average : averaged weights; empty where no average is kept
    best : the weights of the best epoch so far; empty before the first one
    best_epoch : its number, from 0; -1 before the first one
    history : one flat record for each epoch
    """

    epoch: int = 0
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    average: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


ARRAYS = ("variables", "optimizer", "average", "best")


def checkpoint_key(*parts: Any, features: Iterable[tuple[str, str]], sources: Iterable[Path]) -> str:
    """Hash of everything that decides the result of a training run.

    parts : plain data: params, manifest rows, library versions, number format, number of devices
    features : name and digest of each shard
    sources : the Python files that make the result
    """
    code = []
    for path in sorted(sources):
        with path.open("rb") as handle:
            code.append((path.name, sha256_of_file(handle)))
    return sha256_of_json([FORMAT, list(parts), [list(pair) for pair in features], code])


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write to a temporary name, flush to the disk, rename: a kill leaves the old file or the new one, whole.

    Raises
    ------
    StorageError
        The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    plain = {
        "format": FORMAT,
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "history": state.history,
        "counts": {name: len(getattr(state, name)) for name in ARRAYS},
    }
    arrays: dict[str, np.ndarray] = {"plain": np.frombuffer(json.dumps(plain).encode(), np.uint8)}
    for name in ARRAYS:
        arrays.update({f"{name}{i}": value for i, value in enumerate(getattr(state, name))})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        needed = sum(value.nbytes for value in arrays.values())
        raise StorageError(
            f"{path}: the checkpoint could not be written: {error}; it needs {needed / 1e6:.0f} MB, and the last one "
            "stays until it is whole. Free some space and run `dvc repro` again: it goes on from the last one"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> TrainingState | None:
    """The state that was saved, or None where there is none or it cannot be read (said in the log)."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            plain = json.loads(stored["plain"].tobytes())
            if plain["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, received {plain['format']}")
            groups = {name: [stored[f"{name}{i}"] for i in range(plain["counts"][name])] for name in ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read (%s): training starts anew", path, error)
        return None
    return TrainingState(epoch=plain["epoch"], best_epoch=plain["best_epoch"], history=plain["history"], **groups)


def remove_other_checkpoints(folder: Path, keep: Path) -> None:
    """Drop checkpoints of other settings and unfinished files: they are as large as the model several times over."""
    for path in sorted(folder.glob("*")):
        if path != keep and path.is_file():
            path.unlink(missing_ok=True)
