"""Windows of the feature shards as batches for training and scoring.

What fits into `train.memory_gb` is held in memory as uint8 and shuffled as a whole (by JAX on the GPU, where it is no
more than DEVICE_BYTES); what does not fit is streamed through a pool (stages/learning/stream.py), in an order of its
own: so memory_gb is a parameter of the result. Either order depends on (seed, epoch) only, so a resumed run goes on
exactly where the killed one was.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.learning.runtime import accelerators, keras
from stages.learning.sounds import WindowSounds
from stages.learning.stream import PIECE, POOL_BYTES, draws, pieces_of, pool_places
from stages.pipeline.errors import SplitError, StorageError
from stages.pipeline.manifest_table import Row
from stages.pipeline.shards import Shard, list_shards

log = logging.getLogger(__name__)

BATCHES_AHEAD = 4
LARGEST_GAP = 16  # rows: to read so many in vain costs less than another call
DEVICE_BYTES = 2e9  # a small GPU has room for it beside any of the networks
Batch = tuple[Any, np.ndarray, np.ndarray]  # images, or images and sounds; labels; weights


@dataclass(frozen=True)
class Windows:
    """Where the windows of one split lie, and what they are.

    clips : the manifest's rows that have features, in the manifest's order
    shard, row, clip, label : (windows,) integers: shard number, row in it, index into `clips`, index of the language
    shape : (bands, columns) of each image
    """

    shards: tuple[Path, ...]
    clips: tuple[Row, ...]
    shard: np.ndarray
    row: np.ndarray
    clip: np.ndarray
    label: np.ndarray
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def n_bytes(self) -> int:
        return len(self) * self.shape[0] * self.shape[1]


def index_windows(features: Path, rows: Sequence[Row], languages: Sequence[str], split: str) -> Windows:
    """Find the windows of `split`. Clips of the manifest that the features lack were rejected on the way.

    Raises
    ------
    SplitError
        A clip's language is not among `languages`.
    StorageError
        No shard, a damaged one, or shards whose images differ in size.
    """
    shards = tuple(list_shards(features))
    number_of = {language: number for number, language in enumerate(languages)}
    wanted = {row.id: row for row in rows if row.split == split}
    foreign = sorted({row.language for row in wanted.values()} - set(number_of))
    if foreign:
        raise SplitError(
            f"the {split} split has {len(foreign)} language(s) that the training split lacks: "
            f"{', '.join(foreign[:10])}; drop them (manifest.drop_languages) or add training recordings"
        )
    place: dict[str, tuple[int, int, int]] = {}  # clip id -> shard number, first row, windows
    shape: tuple[int, int] | None = None
    for shard_number, path in enumerate(shards):
        with Shard(path) as shard:
            lengths = shard.lengths
            first = np.concatenate([[0], np.cumsum(lengths)])
            found = (int(shard.data.shape[1]), int(shard.data.shape[2]))
            if len(shard.data) and found != (shape or found):
                raise StorageError(f"expected images of {shape} in {path}, found {found}; run `dvc repro resize`")
            shape = found if len(shard.data) or shape is None else shape
            for i, clip_id in enumerate(shard.ids):
                if clip_id in wanted and lengths[i]:
                    place[clip_id] = (shard_number, int(first[i]), int(lengths[i]))
    clips = tuple(row for row in wanted.values() if row.id in place)
    columns: list[tuple[int, int, int, int]] = []
    for clip_number, row in enumerate(clips):
        shard_number, start, count = place[row.id]
        label = number_of[row.language]
        columns.extend((shard_number, start + k, clip_number, label) for k in range(count))
    table = np.array(columns, np.int64).reshape(-1, 4)
    return Windows(shards, clips, table[:, 0], table[:, 1], table[:, 2], table[:, 3], shape or (0, 0))


def _runs(values: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Cut `values` after each place where `ends`, which is one shorter, is true."""
    return np.split(values, np.flatnonzero(ends) + 1) if len(values) else []


class Images:
    """Reads windows by number: from memory where `memory_gb` allows it, else from the shards."""

    def __init__(self, windows: Windows, memory_gb: float) -> None:
        self.windows = windows
        self.in_memory = windows.n_bytes <= memory_gb * 1e9
        self._held: np.ndarray | None = None
        if self.in_memory:
            self._held = self._from_shards(np.arange(len(windows)))
        else:
            log.debug("%.1f GB of windows do not fit into memory_gb = %g: streaming", windows.n_bytes / 1e9, memory_gb)

    def _from_shards(self, numbers: np.ndarray) -> np.ndarray:
        """Windows that lie close together are read at once, and what lies between them with them."""
        out = np.empty((len(numbers), *self.windows.shape), np.uint8)
        order = np.lexsort((self.windows.row[numbers], self.windows.shard[numbers]))
        shards, rows = self.windows.shard[numbers[order]], self.windows.row[numbers[order]]
        new_shard = np.diff(shards) != 0
        new_read = new_shard | (np.diff(rows) > LARGEST_GAP) | (np.diff(rows // PIECE) != 0)  # reads of bounded size
        for one_shard in _runs(np.arange(len(order)), new_shard):
            with Shard(self.windows.shards[shards[one_shard[0]]]) as shard:
                for read in _runs(one_shard, new_read[one_shard[:-1]]):
                    first, last = int(rows[read[0]]), int(rows[read[-1]])
                    block = shard.read(first, last + 1)  # (rows, bands, columns, 1)
                    out[order[read]] = block[rows[read] - first, :, :, 0]
        return out

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """(len(numbers), bands, columns), uint8.

        Raises StorageError where a shard is damaged (fletcher32).
        """
        if self._held is not None:
            out: np.ndarray = self._held[numbers]
            return out
        return self._from_shards(numbers)

    def reading_order(self) -> np.ndarray:
        """Numbers of all windows in the order in which they are read fastest: as they are held, or as they lie."""
        if self.in_memory:
            return np.arange(len(self.windows))
        return np.lexsort((self.windows.row, self.windows.shard))


def class_weights(labels: np.ndarray, n_languages: int, kind: str) -> np.ndarray:
    """(languages,) float32, mean 1 over the windows. balanced: every language counts the same."""
    if kind == "none":
        return np.ones(n_languages, np.float32)
    count = np.bincount(labels, minlength=n_languages)
    return (len(labels) / (n_languages * np.maximum(count, 1))).astype(np.float32)


def ahead(
    batches: Iterator[Any], failures: list[BaseException] | None = None, depth: int = BATCHES_AHEAD
) -> Generator[Any, None, None]:
    """Make the next `depth` batches in a thread while the network learns from this one.

    failures : is told an error that ends the thread, before it is raised here: TensorFlow hides its type.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(("batch", batch)):
                    return
            put(("end", None))
        except BaseException as error:
            if failures is not None:
                failures.append(error)
            put(("error", error))

    worker = threading.Thread(target=work, name="batches-ahead", daemon=True)
    worker.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        worker.join()


class TrainingBatches:
    """The batches of each epoch: images (batch, bands, columns, 1) uint8, labels (batch, languages), weights (batch,).

    With `sounds`, images are a pair: the images, and the classes of what is said in them, (batch, columns) uint8.

    All have one size, as each other size would be compiled anew and a last batch of one window would upset batch
    normalisation: a few windows are heard twice where the number doesn't divide.

    devices : equal parts for so many
    """

    def __init__(
        self,
        images: Images,
        n_languages: int,
        batch_size: int,
        weights: str,
        seed: int,
        devices: int = 1,
        pool_bytes: float = POOL_BYTES,
        sounds: WindowSounds | None = None,
    ) -> None:
        self.images = images
        self.sounds = sounds
        self.n_languages = n_languages
        self.seed = seed
        self.pool_bytes = pool_bytes
        self.steps = max(1, -(-len(images.windows) // batch_size))
        self.size = -(-len(images.windows) // (self.steps * devices)) * devices
        self.class_weights = class_weights(images.windows.label, n_languages, weights)
        pictures: Any = keras.KerasTensor((self.size, *images.windows.shape, 1), "uint8")
        if sounds is not None:
            pictures = (pictures, keras.KerasTensor((self.size, images.windows.shape[1]), "uint8"))
        self.specs = (
            pictures, keras.KerasTensor((self.size, n_languages), "float32"), keras.KerasTensor((self.size,), "float32")
        )  # fmt: skip
        # not by TensorFlow: its datasets would bring each batch back to the host
        on_device = keras.backend.backend() == "jax" and accelerators() and images.windows.n_bytes <= DEVICE_BYTES
        held = images.take(np.arange(len(images.windows))) if on_device and images.in_memory else None
        self._on_device = None if held is None else keras.ops.convert_to_tensor(held)

    def drawn(self, epoch: int) -> Iterator[tuple[Any, np.ndarray]]:
        """Each step's images (batch, bands, columns), uint8, and numbers of their windows (batch,)."""
        n, rng = len(self.images.windows), np.random.default_rng([self.seed, epoch])
        sizes = [len(part) for part in np.array_split(np.arange(n), self.steps)]
        if self.images.in_memory:
            for part in np.split(rng.permutation(n), np.cumsum(sizes)[:-1]):
                numbers = np.resize(part, self.size)
                if self._on_device is None:
                    yield self.images.take(numbers), numbers
                else:
                    yield keras.ops.take(self._on_device, numbers.astype(np.int32), axis=0), numbers
            return
        windows = self.images.windows
        pieces = pieces_of(windows.shard, windows.row)
        places = pool_places(pieces, windows.n_bytes // max(1, n), max(sizes), self.pool_bytes)
        pool = np.empty((places, *windows.shape), np.uint8)
        for draw in draws(pieces, sizes, places, rng):
            into = draw.into
            for piece in draw.load:
                pool[into[: len(piece)]] = self.images.take(piece)
                into = into[len(piece) :]
            yield pool[np.resize(draw.take, self.size)], np.resize(draw.numbers, self.size)

    def _make(self, epoch: int) -> Iterator[Batch]:
        for pictures, numbers in self.drawn(epoch):
            label = self.images.windows.label[numbers]
            heard = pictures[..., None]
            if self.sounds is not None:
                heard = (heard, self.sounds.columns(numbers, pictures.shape[2]))
            yield heard, np.eye(self.n_languages, dtype=np.float32)[label], self.class_weights[label]

    def epoch(self, epoch: int, failures: list[BaseException] | None = None) -> Iterator[Batch]:
        """The batches of one epoch, made ahead in a thread; `failures` as in `ahead`."""
        return ahead(self._make(epoch), failures)


def scoring_batches(images: Images, batch_size: int) -> Iterator[np.ndarray]:
    """All windows in `images.reading_order()`, (batch, bands, columns, 1) uint8."""

    def make() -> Iterator[np.ndarray]:
        order = images.reading_order()
        for first in range(0, len(order), batch_size):
            yield images.take(order[first : first + batch_size])[..., None]

    return ahead(make())
