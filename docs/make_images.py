"""Draw the README's pictures from a finished run: docs/images/spectrograms.png and docs/images/confusion.png.

    python -m docs.make_images [LANGUAGE ...]

The spectrograms are images of the test split as the network sees them, five languages by one voice where the corpus
has such a voice.
"""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from stages.logmel import band_edges
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.params import Params, load_params
from stages.pipeline.shards import Shard

COLOURS = "magma"  # even in lightness, so it reads the same to all kinds of colour vision
MOST = 5
FEATURES = Path("data/features")
CONFUSION = Path("metrics/evaluate/confusion.png")
IMAGES = Path("docs/images")
_TICKS_HZ = (100, 300, 1000, 2000, 4000, 8000)


def choose(rows: Sequence[Row], wanted: Sequence[str] = ()) -> list[Row]:
    """One test clip for each language, of one group where a group has them all; the ids decide among equals."""
    test = sorted((row for row in rows if row.split == "test"), key=lambda row: row.id)
    languages = list(wanted) or sorted({row.language for row in test})[:MOST]
    groups: dict[str, set[str]] = defaultdict(set)
    for row in test:
        groups[row.group].add(row.language)
    shared = sorted(group for group, spoken in groups.items() if spoken >= set(languages))
    pool = [row for row in test if not shared or row.group == shared[0]]
    missing = [language for language in languages if language not in {row.language for row in pool}]
    if missing:
        raise SystemExit(f"the test split has no clip of {', '.join(missing)}")
    return [next(row for row in pool if row.language == language) for language in languages]


def first_image(row: Row, features: Path = FEATURES) -> np.ndarray:
    """(height, width) uint8: the first window of a clip."""
    with Shard(features / f"{row.shard}.h5") as shard:
        image: np.ndarray = shard.clip(shard.ids.index(row.id))[0, :, :, 0]
    return image


def draw(images: Sequence[np.ndarray], languages: Sequence[str], params: Params, path: Path) -> None:
    """Spectrograms side by side, frequency in kHz and time in seconds; 128 colours keep the file small."""
    height, seconds = images[0].shape[0], params.resize.window_seconds
    centres = band_edges(params.logmel)[1:-1]  # (n_mels,) Hz
    ticks = [hz for hz in _TICKS_HZ if centres[0] <= hz <= centres[-1] * 1.02]
    places = np.interp(ticks, centres, np.linspace(0.5, height - 0.5, len(centres)))
    figure, axes = plt.subplots(
        1, len(images), figsize=(2.3 * len(images), 2.7), sharey=True, layout="constrained", squeeze=False
    )
    for panel, image, language in zip(axes[0], images, languages, strict=True):
        extent = (0, seconds, 0, height)
        panel.imshow(image, origin="lower", aspect="auto", extent=extent, cmap=COLOURS, vmin=0, vmax=255)
        panel.set_title(language, fontsize=11)
        panel.set_xlabel("seconds", fontsize=9)
        panel.tick_params(labelsize=8)
    axes[0][0].set_yticks(places, [f"{hz / 1000:g}" for hz in ticks])
    axes[0][0].set_ylabel("kHz", fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def main(wanted: Sequence[str]) -> None:
    rows = choose(read_manifest(), wanted)
    draw([first_image(row) for row in rows], [row.language for row in rows], load_params(), IMAGES / "spectrograms.png")
    if CONFUSION.is_file():
        shutil.copyfile(CONFUSION, IMAGES / "confusion.png")


if __name__ == "__main__":
    main(sys.argv[1:])
