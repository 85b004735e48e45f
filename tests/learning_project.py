"""A small project folder with real shards, for the tests of the learning stages.

Each language has its own stripes in the image; each group ("voice") its own level, so that a network has something
to learn and a group something to share.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from stages.pipeline.manifest_table import Row, clip_id, write_manifest
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Signal

ROOT = Path(__file__).resolve().parent.parent
SIZE = 48
SPLIT_OF_GROUP = ("train", "train", "train", "train", "validation", "test", "test")
LABEL = "group-disjoint"


def picture(language: int, group: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 1) uint8: stripes in a place and rhythm of the language's own, in noise."""
    image = rng.integers(1, 90 + 5 * group, (size, size))
    first = 4 + language * (size // 5)
    image[first : first + 4, :: 2 + language] += 150
    return image.astype(np.uint8)[..., None]


def make_project(
    folder: Path,
    *,
    languages: int = 3,
    clips_per_group: int = 8,
    size: int = SIZE,
    split_of_group: tuple[str, ...] = SPLIT_OF_GROUP,
    changes: dict[str, object] | None = None,
) -> Path:
    """data/manifest.csv, data/manifest.json, data/features/*.h5 and params.yaml under `folder`.

    The last clip of each language stands in the manifest only, as if a stage had rejected it; every fifth clip has
    two windows. changes : dotted key of params.yaml -> value.
    """
    features = folder / "data" / "features"
    features.mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows = []
    for language in range(languages):
        for group, split in enumerate(split_of_group):
            for k in range(clips_per_group):
                path = f"l{language}/g{group}-{k}.wav"
                name = clip_id(path)
                rows.append(
                    Row(name, path, f"l{language}", f"g{group}", split, name * 4, f"{int(name[0], 16) % 3:03d}")
                )
    write_manifest(rows, folder / "data" / "manifest.csv")
    write_sounds(rows, folder / "data" / "sounds.csv")
    (folder / "data" / "manifest.json").write_text(json.dumps({"split_by": "group", "split_label": LABEL}))
    last = f"g{len(split_of_group) - 1}-{clips_per_group - 1}.wav"
    for shard in sorted({row.shard for row in rows}):
        with ShardWriter(features / f"{shard}.h5", Item((size, size, 1), "uint8", 1)) as writer:
            for number, row in enumerate(rows):
                if row.shard == shard and not row.path.endswith(last):
                    windows = 2 if number % 5 == 0 else 1
                    images = np.stack(
                        [picture(int(row.language[1:]), int(row.group[1:]), rng, size) for _ in range(windows)]
                    )
                    writer.add(row.id, row.path, lambda images=images: Signal(0, [images]), 10.0 * windows)  # type: ignore[misc]
            writer.finish()
    values = {
        "resize.height": size,
        "resize.width": size,
        "train.epochs": 8,
        "train.architecture": "bands",
        "train.learning_rate": 3e-3,
        "train.batch_size": 16,
        "train.precision": "float32",
        "train.augment.crop_columns": size // 2,
        "train.augment.time_mask_columns": 4,
        "train.augment.frequency_mask_bands": 4,
        "evaluate.bootstrap_samples": 200,
    }
    write_params(folder / "params.yaml", values | (changes or {}))
    return folder


def write_sounds(rows: list[Row], path: Path) -> None:
    """What is said in every second training clip: each language has a sound of its own, all have pauses."""
    told = [row for row in rows if row.split == "train"][::2]
    lines = [f"{row.id},10.0,0.000 |2.000 {'aiu'[int(row.language[1:]) % 3]}|8.000 " for row in told]
    path.write_text("\n".join(["id,seconds,sounds", *lines]) + "\n", encoding="utf-8")


def write_params(path: Path, changes: dict[str, object]) -> None:
    """The repository's params.yaml with some values changed, line by line (as a person would)."""
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        at = -1
        for depth, parent in enumerate(parents):
            at = next(i for i in range(at + 1, len(lines)) if re.match(rf"^{'  ' * depth}{parent}:", lines[i]))
        indent = "  " * len(parents)
        at = next(i for i in range(at + 1, len(lines)) if re.match(rf"^{indent}{key}:", lines[i]))
        lines[at] = f"{indent}{key}: {json.dumps(value)}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
