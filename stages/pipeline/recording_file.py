"""A recording of the manifest as an open file, wherever it lies."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.pipeline.archives import Span, blocks
from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.manifest_table import Row
from stages.pipeline.paths import unescape_path


@contextmanager
def open_recording(root: Path, row: Row) -> Iterator[tuple[IO[bytes], str | os.PathLike[str]]]:
    """The recording's bytes, and a path by which another process can open them while the block lasts.

    A member of an archive is copied into a file that exists in memory only: libsndfile and ffmpeg get a real file
    descriptor, and no byte of it touches the disk.

    Raises
    ------
    StorageError
        The file or its archive cannot be opened, or the archive is not the one that the manifest lists.
    """
    path = root / unescape_path(row.path)
    if not row.span:
        with open_file(path) as handle:
            yield handle, path
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
        with _Link(handle, path.suffix) as link:
            yield handle, link


class _Link(os.PathLike[str]):
    """A path to an open file, made when it is asked for: few recordings need ffmpeg, which opens by path.

    It has the recording's extension, as ffmpeg looks there where the content leaves a doubt.
    """

    def __init__(self, handle: IO[bytes], suffix: str) -> None:
        self._handle = handle
        self._name = "recording" + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else "")
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> _Link:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder:
            self._folder.cleanup()

    def __fspath__(self) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="recording-")
            os.symlink(f"/proc/{os.getpid()}/fd/{self._handle.fileno()}", f"{self._folder.name}/{self._name}")
        return f"{self._folder.name}/{self._name}"


def open_file(path: Path) -> IO[bytes]:
    """Unbuffered, for reading. Raises StorageError."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise StorageError(
            f"a recording cannot be opened: {error}; run `dvc repro -f manifest` if it is gone"
        ) from None
