"""HDF5 files that HDF5 gets to see only if they are as they were written.

HDF5's library keeps no checksum of its own index, gives zeros for a chunk that it does not find, and crashes on some
damaged indexes. So behind HDF5's end stands a seal: the places of the chunks, their number, and the BLAKE3 of all that
is no chunk. The chunks have Fletcher-32 checksums. It is proof against accidents, not against intent: who makes a
file may seal it.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from blake3 import blake3

_DIGEST_BYTES = 32
_PLACE = np.dtype("<u8")


def open_sealed(path: Path, version: int) -> h5py.File:
    """Open for reading what `seal_of` was appended to.

    Raises
    ------
    ValueError
        Its index is not as it was written, or it is of another version; besides what h5py raises.
    """
    with path.open("rb") as raw:
        _check_seal(raw.fileno())
    file = h5py.File(path, "r")
    try:
        if (found := file.attrs.get("format")) != version:
            raise ValueError(f"expected format {version}, received {found!r}")
    except Exception:
        file.close()
        raise
    return file


def dataset_in(file: h5py.File, name: str) -> h5py.Dataset:
    """Numbers, stored as every stage stores them.

    Raises
    ------
    ValueError
        It is none, points at other files or unpacks to more than the file holds; besides what h5py raises.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"expected a dataset {name}")
    found = file[name]
    layout = found.id.get_create_plist()
    filters = [layout.get_filter(i)[0] for i in range(layout.get_nfilters())]
    if found.chunks is None or filters != [h5py.h5z.FILTER_FLETCHER32] or found.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected numbers in chunks with checksums, as every stage writes them")
    if found.nbytes > file.id.get_filesize():
        raise ValueError(f"{name}: expected no more bytes than the file has, found {found.nbytes}")
    return found


def json_in(file: h5py.File, name: str) -> dict[str, Any]:
    """The mapping that stands there as JSON. Raises as `dataset_in`."""
    value = json.loads(bytes(dataset_in(file, name)[()]))
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a mapping, received a {type(value).__name__}")
    return value


def texts(values: dict[str, Any], name: str) -> list[str]:
    """Raises KeyError, or ValueError where it is no list of texts."""
    found = values[name]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name}: expected a list of texts")
    return found


def numbers(values: dict[str, Any], name: str, kind: type[int] | type[float]) -> list[Any]:
    """Raises KeyError, or ValueError where it is no list of finite numbers from 0 of just that kind."""
    found = values[name]
    if not isinstance(found, list) or not all(type(one) is kind and 0 <= one < math.inf for one in found):
        raise ValueError(f"{name}: expected a list of numbers from 0")
    return found


def seal_of(file: h5py.File, raw: int, size: int) -> bytes:
    """What stands behind a shard's `size` bytes of HDF5: where its chunks are, their number, and the BLAKE3.

    raw : descriptor of the same file.
    """
    chunks: list[tuple[int, int]] = []
    for dataset in (file["data"], file["clips"], file["summary"]):
        dataset.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))
    runs: list[list[int]] = []
    for start, length in sorted(chunks):
        if runs and sum(runs[-1]) == start:
            runs[-1][1] += length
        else:
            runs.append([start, length])
    places = np.array(runs, _PLACE).tobytes() + np.array(len(runs), _PLACE).tobytes()
    return places + _digest(raw, runs, size, places)


def _digest(raw: int, runs: list[list[int]], size: int, places: bytes) -> bytes:
    """Of the first `size` bytes but for the chunks, which have checksums of their own, and of `places`."""
    digest, place = blake3(), 0
    for start, length in [*runs, (size, 0)]:
        if not place <= start <= size:
            raise ValueError("its chunks overlap")
        digest.update(os.pread(raw, start - place, place))
        place = start + length
    digest.update(places)
    return digest.digest()


def _check_seal(raw: int) -> None:
    """Raises ValueError where something that is no chunk has changed since the shard was written."""
    end = os.fstat(raw).st_size - _DIGEST_BYTES
    count = int.from_bytes(os.pread(raw, _PLACE.itemsize, end - _PLACE.itemsize), "little") if end > 0 else 0
    size = end - _PLACE.itemsize * (1 + 2 * count)
    if size <= 0:
        raise ValueError("it is cut off, or of another version")
    places = os.pread(raw, end - size, size)
    runs = np.frombuffer(places[: -_PLACE.itemsize], _PLACE).reshape(-1, 2).tolist()
    if os.pread(raw, _DIGEST_BYTES, end) != _digest(raw, runs, size, places):
        raise ValueError("its index has changed since it was written, or it is of another version")
