"""What DVC's cache and the stages' shards hold is what was written: a flipped byte keeps its date, so DVC trusts it."""

from __future__ import annotations

import hashlib
import random
import re
import shlex
from pathlib import Path

from app.doctor.disk import cache_folder
from app.doctor.finding import Findings, fault, ok

STAGES = ("decoded", "resampled", "logmel", "features")
_OBJECTS, _SHARDS = 40, 8  # of the sample; shards: of each stage


def cache(whole: bool) -> Findings:
    """The MD5 of each object is its name."""
    home = cache_folder()
    folder = home / "files/md5"
    objects = [path for path in sorted(folder.glob("??/*")) if re.fullmatch(r"[0-9a-f]{30}(\.dir)?", path.name)]
    chosen = objects if whole else random.sample(objects, min(_OBJECTS, len(objects)))
    bad = 0
    for path in chosen:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "md5").hexdigest()
        if digest != path.parent.name + path.name.removesuffix(".dir"):
            bad += 1
            yield fault(
                f"{path} in DVC's cache is not what was put there ({path.stat().st_size} bytes)",
                _remove(path, *([] if home.is_relative_to(Path.cwd()) else [home])),
            )
    if not bad:
        yield ok(f"DVC's cache: {len(chosen)} of {len(objects)} objects read, their hashes match")


def _remove(path: Path, *elsewhere: Path) -> str:
    # the out, the cache and the reuse store may be names of one file
    places = " ".join([".", *(shlex.quote(str(folder)) for folder in elsewhere)])
    return f"find {places} -samefile {shlex.quote(str(path))} -delete  # then dvc repro makes it anew"


def shards(whole: bool) -> Findings:
    """Each shard has its record, and every chunk its checksum."""
    from stages.pipeline.errors import StorageError
    from stages.pipeline.shards import Shard

    read = there = bad = 0
    for stage in STAGES:
        paths = sorted(Path("data", stage).glob("*.h5"))
        there += len(paths)
        for path in paths if whole else random.sample(paths, min(_SHARDS, len(paths))):
            read += 1
            try:
                with Shard(path) as shard:
                    shard.verify()
            except StorageError as error:
                bad += 1
                yield fault(str(error).partition(". Remove it")[0], _remove(path))
    if not bad:
        yield ok(f"shards: {read} of {there} read, checksums match")
