"""Shards as an input of fuzzing: damaged as a disk would, and forged with a seal that fits.

What is damaged must be refused or give what was written; what is forged must be refused or give clips that are whole.
Forged ones are written by HDF5 itself, with other shapes, types, filters, texts or attributes: bytes of HDF5's own
index that were changed on purpose and sealed again may crash its library (docs/threat_model.md), and are not tried.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from blake3 import blake3
from hypothesis import strategies as st

from faults.mutations import DRAWN_SHARE, VALUES, any_value, broken, changed_values, drawn
from faults.result import must
from stages.pipeline.donors import find_places
from stages.pipeline.errors import PipelineError, RejectedClip
from stages.pipeline.sealed import seal_of
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Shard, Signal, read_summary

_FORGED_SHARE = 0.3
_SEEDS: list[tuple[Item, list[int | None]]] = [  # items of each clip, None for a rejected one
    (Item((), "int16", 256), [700, 300, None, 900]),
    (Item((8, 8, 1), "uint8", 1), [1, 2, 3]),
    (Item((16,), "float16", 32), [40, None, 20]),
    (Item((4,), "float16", 32), [None]),
]
_TYPES = ("int8", "<u8", "f8", "c16", "S5", "?", "<i2", h5py.string_dtype(), h5py.ref_dtype, [("a", "i2"), ("b", "f4")])
_SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3, 0), (1900,), (1 << 40,), (1 << 20, 1 << 20), (2,) * 8)
_FILTERS: tuple[dict[str, Any], ...] = (
    *({"compression": "gzip"}, {"shuffle": True}, {"scaleoffset": 0}, {"compression": "lzf"}, {}, {"fletcher32": True}),
)


class Shards:
    """make gives (which shard it was, its new content or None, how to forge it)."""

    def __init__(self, folder: Path) -> None:
        self.drawn, self._path, self._forged = 0, folder / "s0.h5", folder / "forged.h5"
        rng = np.random.default_rng(0)
        self._seeds, self._truths = [], []
        for item, clips in _SEEDS:
            with ShardWriter(self._path, item) as writer:
                for i, length in enumerate(clips):
                    shape = (length or 0, *item.shape)
                    block = rng.integers(0, 90, shape).astype(item.dtype)
                    make = partial(_reject, i) if length is None else partial(Signal, 16000.0, [block])
                    writer.add(f"{i:016x}", f"é/{i}", make, 1.0, f"source {i}")
                writer.finish()
            self._seeds.append(self._path.read_bytes())
            self._truths.append(self._content())
        self._draw = drawn(st.tuples(st.sampled_from(["clips", "summary"]), any_value()))

    def make(self, rng: random.Random) -> tuple[int, bytes | None, random.Random]:
        number = rng.randrange(len(self._seeds))
        if rng.random() < _FORGED_SHARE:
            return number, None, rng
        return number, broken(self._seeds[number], rng, rng.choice(self._seeds)), rng

    def read(self, value: tuple[int, bytes | None, random.Random]) -> None:
        number, content, rng = value
        if content is None:
            self._forge(number, rng)
        else:
            self._path.write_bytes(content)
        find_places([self._path], {"source 1"})
        try:
            found = self._content()
        finally:
            read_summary_error = _error_of(lambda: read_summary(self._path))
        must(content is None or found == self._truths[number], "other data than were written, without an error")
        must(read_summary_error is None, f"Shard reads it, read_summary does not: {read_summary_error}")

    def _content(self) -> tuple[Any, ...]:
        """All that the next stage would take from it."""
        with Shard(self._path) as shard:
            clips = [shard.clip(i) for i in range(len(shard))]
            must(
                [len(clip) for clip in clips] == shard.lengths.tolist(), "clips are not as long as they are said to be"
            )
            shard.verify()
            lists = (shard.ids, shard.paths, shard.digests, shard.sources, shard.rejected_sources)
            for text in (text for texts in lists for text in texts):
                must(isinstance(text, str), f"{text!r} for a text")
            return *lists, shard.rates_hz.tolist(), [clip.tobytes() for clip in clips], shard.summary()

    def _forge(self, number: int, rng: random.Random) -> None:
        """Write the shard anew with one part other than any stage writes it, and seal it."""
        self._path.write_bytes(self._seeds[number])
        kind = rng.randrange(8)
        with h5py.File(self._path) as whole, h5py.File(self._forged, "w") as file:
            parts = {name: whole[name] for name in ("data", "clips", "summary")}
            name = rng.choice([*parts])
            for part in parts.keys() - {name}:
                whole.copy(part, file)
            if kind < 4:
                self._other_text(file, name, parts, rng)
            elif kind < 6:
                self._other_form(file, name, rng)
            elif kind == 6:
                links = (
                    h5py.SoftLink("/clips"),
                    h5py.SoftLink("/gone"),
                    h5py.ExternalLink("/etc/passwd", "/"),
                    "group",
                )
                link = rng.choice(links)
                file[name] = link if link != "group" else file.create_group("other")
            else:
                whole.copy(name, file)
            version = whole.attrs["format"] if kind < 7 else rng.choice((*VALUES, np.zeros(3), "4", 4.0, 3))
            try:
                file.attrs["format"] = version
            except (TypeError, ValueError, OverflowError, UnicodeEncodeError, OSError):
                file.attrs["format"] = -1
        self._seal()

    def _other_text(self, file: h5py.File, name: str, parts: dict[str, h5py.Dataset], rng: random.Random) -> None:
        if name == "data":
            block = parts["data"][: rng.randrange(len(parts["data"]) + 1)]
            file.create_dataset("data", data=block, chunks=parts["data"].chunks, maxshape=parts["data"].maxshape,
                                fletcher32=True)  # fmt: skip
            return
        values = json.loads(bytes(parts[name][()]))
        if rng.random() < DRAWN_SHARE and (pair := self._draw(rng)) is not None:
            self.drawn += 1
            values[rng.choice([*values])] = pair[1]
        else:
            values = changed_values(values, rng, lambda: rng.choice(VALUES))
        try:
            text = json.dumps(values).encode()
        except (TypeError, ValueError):
            text = rng.choice((b"[" * 5000, b"{}", b"[]", b'"x"', b"1" * 5000, b"\xff", b"{"))
        stored = np.frombuffer(text, np.uint8)
        file.create_dataset(name, data=stored, chunks=stored.shape, fletcher32=True)

    def _other_form(self, file: h5py.File, name: str, rng: random.Random) -> None:
        shape, kind, filters = rng.choice(_SHAPES), rng.choice(_TYPES), rng.choice(_FILTERS)
        chunks = True if shape and all(shape) and rng.random() < 0.8 else None
        try:
            file.create_dataset(name, shape, kind, chunks=chunks, **(filters if chunks else {}))
        except (TypeError, ValueError, OSError):  # a combination that HDF5 does not write
            file[name] = 5

    def _seal(self) -> None:
        with h5py.File(self._forged) as file, self._forged.open("r+b") as raw:
            size = raw.seek(0, os.SEEK_END)
            try:
                seal = seal_of(file, raw.fileno(), size)
            except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OSError):
                seal = _seal_without_chunks(raw.fileno(), size)
            raw.write(seal)
        self._forged.replace(self._path)


def _seal_without_chunks(raw: int, size: int) -> bytes:
    """A seal that fits where `seal_of` can find no chunks."""
    places = (0).to_bytes(8, "little")
    return places + blake3(os.pread(raw, size, 0) + places).digest()


def _error_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except PipelineError as error:
        return str(error)
    return None


def _reject(number: int) -> Signal:
    raise RejectedClip("silent", f"clip {number}")
