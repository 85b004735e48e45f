"""data/manifest.csv: the one list of all recordings that every later stage goes by."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stages.pipeline.errors import StorageError
from stages.pipeline.files import write_atomically

MANIFEST = Path("data/manifest.csv")
SPLITS = ("train", "validation", "test")
_SHARD = re.compile(r"[0-9a-z]{1,80}")
_SPAN = re.compile(r"[0-9]{1,18}\+[0-9]{1,18}(>[0-9]{1,18})?")  # what fits a file's offset


class Row(NamedTuple):
    """One recording that the manifest kept.

    id : 16 hexadecimal characters, a hash of the path: stable while other recordings come and go, and the same
        whether the recording is a file of its own or lies in an archive that would unpack to that file.
    path : relative to the dataset's folder, escaped as in `stages.pipeline.paths`; for a member of an archive the
        archive's path, a slash and the member's name.
    group : speaker or source; no group stands in two splits. The id, where none is known.
    sha256 : of the recording's bytes, hexadecimal.
    shard : name of the shard that holds it in every data stage.
    span : where it lies in its archive, as `stages.pipeline.archives.Span` writes it; "" for a file of its own.
    """

    id: str
    path: str
    language: str
    group: str
    split: str
    sha256: str
    shard: str
    span: str = ""


COLUMNS = Row._fields


def clip_id(path: str) -> str:
    """Stable name of a recording: 64 bits of the SHA-256 of its escaped relative path."""
    return hashlib.sha256(path.encode()).hexdigest()[:16]


def dataset_root(dataset: str) -> Path:
    """The folder that the manifest's paths are relative to: the dataset itself, or the folder of its table."""
    path = Path(dataset)
    return path.parent if path.is_file() else path


def write_manifest(rows: Iterable[Row], path: Path = MANIFEST) -> None:
    with write_atomically(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def read_manifest(path: Path = MANIFEST) -> list[Row]:
    """All rows in the order of the file.

    Raises
    ------
    StorageError
        The file is missing or is no manifest of this version.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.reader(handle)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise StorageError(
                    f"{path}: expected the columns {','.join(COLUMNS)}, received {','.join(header)[:200]!r}; "
                    "run `dvc repro manifest`"
                )
            rows = [Row(*cells) for cells in reader]
            _check(rows)
            return rows
    except FileNotFoundError:
        raise StorageError(f"expected {path}, which the manifest stage writes; run `dvc repro manifest`") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise StorageError(f"{path} cannot be read as a manifest: {error}; run `dvc repro manifest`") from None


def _check(rows: list[Row]) -> None:
    """Raise ValueError where a row holds what no stage writes and another would stumble over."""
    for split in {row.split for row in rows} - set(SPLITS):
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, received {split[:80]!r}")
    for shard in {row.shard for row in rows}:
        if not _SHARD.fullmatch(shard):  # it becomes the name of a file
            raise ValueError(f"expected a shard's name, received {shard[:80]!r}")
    for row in rows:
        if "\0" in row.path or "%00" in row.path:
            raise ValueError(f"no file has a name such as {row.path[:80]!r}")
        if row.span and not _SPAN.fullmatch(row.span):
            raise ValueError(f"expected the place of a recording in an archive, received {row.span[:80]!r}")
