"""The Debian packages of an engine: fetched by data/human's code, unpacked without root."""

from __future__ import annotations

import fcntl
import functools
import shutil
from pathlib import Path

from demo_corpus.errors import DemoError

DATA_FOLDER = Path(__file__).resolve().parents[1]


@functools.cache
def unpacked(engine: str) -> Path:
    """The folder that the packages of ENGINE_packages.txt are unpacked in; the first comer does it, the others wait.

    Raises: DemoError where they cannot be had.
    """
    try:
        from human_corpus.errors import HumanCorpusError
        from human_corpus.packages import fetch, unpack
        from human_corpus.sources import Package
    except ImportError as error:
        raise DemoError(
            f"`engine: {engine}` fetches packages by data/human's code; put data/human on PYTHONPATH."
        ) from error
    cache = DATA_FOLDER / f".{engine}"
    root = cache / "root"
    cache.mkdir(exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        unfinished = cache / "root.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for line in Path(__file__).with_name(f"{engine}_packages.txt").read_text(encoding="utf-8").splitlines():
                if line and not line.startswith("#"):
                    name, version, digest, *component = line.split()
                    package = Package(name, version, digest.strip("-"), *component)
                    unpack(fetch(package, cache / "packages"), unfinished)
        except HumanCorpusError as error:
            raise DemoError(str(error)) from error
        unfinished.rename(root)
    return root
