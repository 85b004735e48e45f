"""One bit flipped in a shard of images, its times kept, then a training.

Must hold: the training ends with status 74, names the shard, and has learned nothing.
The reader is asked about each flip (what training opens first); every fiftieth flip is put before a whole training.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from faults.project import Project, feature_project
from faults.result import Result, must
from stages.pipeline.errors import StorageError
from stages.pipeline.shards import Shard, list_shards

FULL = 200
_WHOLE_EVERY = 50


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """Places are drawn from all bytes of all shards."""
    result = Result()
    project: Project = feature_project(workdir / "project")
    shards = list_shards(project.folder / "data/features")
    trainings = 0
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        path = shards[int(rng.integers(len(shards)))]
        content, times = bytearray(path.read_bytes()), path.stat()
        place, bit = int(rng.integers(len(content))), int(rng.integers(8))
        content[place] ^= 1 << bit
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with result.attempt(number, f"byte {place} of {len(content)}, bit {bit}"):
            must(not _reads(path), "the shard reads as if nothing was wrong")
            if number % _WHOLE_EVERY == _WHOLE_EVERY - 1:
                trainings += 1
                output = project.stage("train", status=74)
                must(path.name in output, output[-300:])
                must(not (project.folder / "models/model/model.weights.h5").exists(), "it has learned")
        content[place] ^= 1 << bit
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    result.facts["trainings"] = trainings
    return result


def _reads(path: Path) -> bool:
    try:
        with Shard(path) as shard:
            for i in range(len(shard)):
                shard.clip(i)
    except StorageError:
        return False
    return True
