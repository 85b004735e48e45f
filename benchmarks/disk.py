"""What lies on the disk: bytes a clip of each stage, what a lossless filter would save and cost, which links DVC needs.

    python benchmarks/disk.py --clips 96 --json

The filters run over the very arrays that the stages store, in the same chunks; write includes HDF5's checksums, read
checks them. The links: the data stages by `dvc repro` in a scratch repository for each of DVC's link types, then the
bytes of all distinct files in the stages' folders, DVC's cache and the reuse store, over the bytes of the folders.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.data_path import DEMO, OUTS, STAGES, prepare
from benchmarks.scratch import ROOT, run, stage
from stages.pipeline.shards import Item, Shard, list_shards

LINKS = ("hardlink", "reflink", "copy")
FILTERS = {
    "none": {},
    "Blosc2, LZ4, bit shuffle": hdf5plugin.Blosc2(cname="lz4", clevel=1, filters=hdf5plugin.Blosc2.BITSHUFFLE),
    "Blosc2, Zstandard 1, bit shuffle": hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.BITSHUFFLE),
    "deflate 1, shuffle (in every HDF5)": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
}


def stored(folder: Path, clips: int = 24) -> list[np.ndarray]:
    """Data of the first clips of a stage."""
    out: list[np.ndarray] = []
    for path in list_shards(folder):
        with Shard(path) as shard:
            out.extend(shard.clip(i) for i in range(len(shard)))
        if len(out) >= clips:
            break
    return out[:clips]


def try_filter(arrays: list[np.ndarray], options: dict[str, object], rounds: int) -> dict[str, float]:
    """CPU ms a clip to write and to read, bytes a clip; medians."""
    shape, dtype = arrays[0].shape[1:], arrays[0].dtype
    chunks = Item(shape, str(dtype), per_chunk=1 if len(shape) == 3 else 0).chunks()
    total = sum(len(array) for array in arrays)
    write, read = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        path = Path(name) / "data.h5"
        for _ in range(rounds):
            write.append(_cpu(lambda: _write(path, arrays, (total, *shape), chunks, options)))
            read.append(_cpu(lambda: _read(path, len(arrays[0]))))
        size = path.stat().st_size
    milliseconds = 1000 / len(arrays)
    return {
        "write_ms": round(statistics.median(write) * milliseconds, 2),
        "read_ms": round(statistics.median(read) * milliseconds, 2),
        "bytes": size // len(arrays),
    }


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _write(
    path: Path, arrays: list[np.ndarray], shape: tuple[int, ...], chunks: tuple[int, ...], options: dict[str, object]
) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", shape, arrays[0].dtype, chunks=chunks, fletcher32=True, **options)
        end = 0
        for array in arrays:
            data[end : end + len(array)] = array
            end += len(array)


def _read(path: Path, step: int) -> None:
    with h5py.File(path, "r") as file:
        for start in range(0, len(file["data"]), step):
            file["data"][start : start + step]


def on_disk(folder: Path) -> dict[str, float]:
    """Bytes of all distinct files that the data stages left, and of the stages' folders alone."""
    seen: dict[int, int] = {}
    for place in (".dvc/cache", "data"):
        for top, _, files in os.walk(folder / place):
            for name in files:
                status = (Path(top) / name).stat()
                seen[status.st_ino] = status.st_size
    outs = sum(path.stat().st_size for one in STAGES for path in (folder / "data" / OUTS[one]).glob("*.h5"))
    return {"bytes": sum(seen.values()), "bytes_of_outs": outs, "times": round(sum(seen.values()) / outs, 2)}


def with_link(source: Path, clips: int, link: str) -> dict[str, float] | None:
    """The data stages under DVC with this link type; None where the file system lacks it."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        prepare(source, clips, folder)
        shutil.rmtree(folder / "data")
        shutil.copy(ROOT / "dvc.yaml", folder)
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "cache.type", link]):
            run(folder, *command)
        if link == "reflink":
            probe = ["cp", "--reflink=always", "params.yaml", ".probe"]
            if subprocess.run(probe, cwd=folder, capture_output=True, check=False).returncode:
                return None
        seconds = run(folder, "dvc", "repro", "-q", "resize").cpu
        return {"cpu_seconds": round(seconds, 2), **on_disk(folder)}


def measure(source: Path = DEMO, clips: int = 96, rounds: int = 5) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        prepare(source, clips, folder)
        filters = {}
        for one in STAGES:
            stage(folder, one)
            arrays = stored(folder / "data" / OUTS[one])
            filters[one] = {label: try_filter(arrays, options, rounds) for label, options in FILTERS.items()}
    return {"clips": clips, "filters": filters, "links": {link: with_link(source, clips, link) for link in LINKS}}


def section(result: dict[str, object]) -> str:
    """The result as Markdown, for benchmarks/results.md."""
    filters: dict[str, dict[str, dict[str, float]]] = result["filters"]  # type: ignore[assignment]
    links: dict[str, dict[str, float] | None] = result["links"]  # type: ignore[assignment]
    rows = []
    for label in FILTERS:
        found = [filters[one][label] for one in STAGES]
        cells = [f"{one['bytes']:,.0f} ({one['write_ms']:.2f} + {one['read_ms']:.2f})" for one in found]
        total = sum(one["bytes"] for one in found)
        cpu = sum(one["write_ms"] + 2 * one["read_ms"] for one in found)
        rows.append(f"| {label} | {' | '.join(cells)} | {total:,.0f} | {cpu:.2f} |")
    link_rows = [
        f"| {link} | {one['times']:.2f} | {one['cpu_seconds']:.1f} |"
        if one
        else f"| {link} | this file system has none | |"
        for link, one in links.items()
    ]
    return "\n".join(
        [
            "## Disk",
            "",
            "Bytes a clip (CPU ms to write + to read it). Each stage writes once and reads twice, to verify and for "
            "the next stage: the last column.",
            "",
            f"| filter | {' | '.join(STAGES)} | all, bytes | all, CPU ms |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"The data stages over {result['clips']} clips by `dvc repro`, by link type: all that lies on the disk "
            "(the stages' folders, DVC's cache, the reuse store) over the size of the folders.",
            "",
            "| cache.type | times on disk | CPU s of `dvc repro` |",
            "|---|---|---|",
            *link_rows,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=DEMO, help="<language>/<name>.mp3")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of Markdown")
    arguments = parser.parse_args()
    result = measure(arguments.source.resolve(), arguments.clips, arguments.rounds)
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
