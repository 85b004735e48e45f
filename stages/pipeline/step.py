"""A data stage as the runner sees it: what its shards are made of and by, and whether a worker would make the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from pydantic import BaseModel

from stages.pipeline.donors import ClipWriter
from stages.pipeline.files import sha256_of_file
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Shard

_FIT: set[Path] = set()  # tokens of the runs that this process, a worker of a cluster, was found fit for


class Work(Protocol):
    """How the clips of one shard are made; must be picklable."""

    def sources(self) -> list[str]:
        """What each clip is made from, as given to `ClipWriter.add`; asked only where there is anything to take."""

    def __call__(self, writer: ClipWriter) -> None:
        """Add all clips, in order."""


@dataclass(frozen=True)
class Job:
    """One shard to make.

    source : hash of all that goes into this shard, but for code, params and libraries.
    """

    name: str
    source: str
    work: Work


@dataclass(frozen=True)
class Step:
    """What the runner must know of a data stage.

    folder : where its shards go, a DVC out.
    modules : names of the modules that its results depend on, its own first.
    params : the sections that its results depend on.
    libraries : gives name and version of whatever else its results depend on; picklable.
    """

    name: str
    folder: Path
    modules: tuple[str, ...]
    item: Item
    params: tuple[BaseModel, ...]
    libraries: Callable[[], dict[str, str]]

    def facts(self) -> dict[str, object]:
        """Code, params and libraries: what all shards of a run share."""
        code = {name: _code(name) for name in (*self.modules, Shard.__module__, ShardWriter.__module__)}
        versions = {"numpy": np.__version__, "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
        params = [section.model_dump(mode="json") for section in self.params]
        item = [self.item.shape, self.item.dtype, self.item.per_chunk]
        return code | versions | self.libraries() | {"stage": self.name, "params": params, "item": item}


@cache  # as it was when this process began to use it: a worker of a cluster may outlive a change to the code
def _code(module: str) -> str:
    with Path(str(importlib.import_module(module).__file__)).open("rb") as handle:
        return sha256_of_file(handle)


@dataclass(frozen=True)
class WorkerCheck:
    """Whether a worker of a cluster sees the same folder and would make the same bytes.

    token : a file of this run in the project's folder, as a relative path.
    """

    step: Step
    facts: dict[str, object]
    token: Path

    @contextmanager
    def token_laid(self) -> Iterator[None]:
        self.token.touch()
        try:
            yield
        finally:
            self.token.unlink(missing_ok=True)

    def __call__(self) -> str:
        """What is wrong, or nothing."""
        if self.token in _FIT:
            return ""
        if not self.token.exists():
            return f"it runs in {Path.cwd()} and does not see {self.token}, so that is not the project's folder"
        here = self.step.facts()
        other = [
            f"{name}: {here.get(name)!r:.60}, expected {self.facts.get(name)!r:.60}"
            for name in sorted(here.keys() | self.facts.keys())
            if here.get(name) != self.facts.get(name)
        ]
        if other:
            return f"it has other code or packages ({'; '.join(other)}); update and restart it"
        _FIT.add(self.token)
        return ""
