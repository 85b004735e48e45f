"""A recording of the manifest as an open file, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.pipeline.archives import Span, blocks
from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.manifest_table import Row
from stages.pipeline.paths import unescape_path


@contextmanager
def open_recording(root: Path, row: Row) -> Iterator[tuple[IO[bytes], str]]:
    """The recording's bytes, and a path by which another process can open them while the block lasts.

    A member of an archive is copied into a file that exists in memory only: libsndfile and ffmpeg get a real file
    descriptor, and nothing touches the disk.

    Raises
    ------
    StorageError
        The file or its archive cannot be opened, or the archive is not the one that the manifest lists.
    """
    path = root / unescape_path(row.path)
    if not row.span:
        with open_file(path) as handle:
            yield handle, os.fspath(path)
        return
    # The manifest's stage has refused names that leave the folder; here the member's name opens nothing anyway.
    archive = next((folder for folder in reversed(path.parents) if folder.is_file()), path)
    with open_file(archive) as packed, os.fdopen(os.memfd_create("recording"), "w+b", buffering=0) as handle:
        try:
            for block in blocks(packed.fileno(), Span.parse(row.span)):
                handle.write(block)
        except (RejectedClip, ValueError) as error:
            raise StorageError(
                f"{archive} is not the archive that the manifest lists ({row.path}: {error}); run "
                "`dvc repro -f manifest`"
            ) from None
        handle.seek(0)
        yield handle, f"/proc/{os.getpid()}/fd/{handle.fileno()}"


def open_file(path: Path) -> IO[bytes]:
    """Unbuffered, for reading. Raises StorageError."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise StorageError(
            f"a recording cannot be opened: {error}; run `dvc repro -f manifest` if it is gone"
        ) from None
