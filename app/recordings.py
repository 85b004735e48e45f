"""Which files to recognise, and what can be said of one before anything is loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from stages.pipeline.errors import RejectedClip

# What stands in folders of recordings, by the containers that ffmpeg may open (stages/pipeline/ffmpeg_pipe.py).
SUFFIXES = (
    *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".flac", ".flv"),
    *(".gsm", ".m4a", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".oga", ".ogg", ".opus"),
    *(".rf64", ".spx", ".tta", ".voc", ".w64", ".wav", ".webm", ".wma", ".wmv", ".wv"),
)


def recordings_in(name: str) -> list[str]:
    """A file is itself; a folder is the recordings in it and below, in order, without hidden ones.

    Raises
    ------
    RejectedClip
        missing, not_a_file, empty_file or unreadable.
    """
    if not os.path.isdir(name):
        check_recording(name)
        return [name]
    found: list[str] = []
    for folder, folders, files in os.walk(name):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        found += [
            os.path.join(folder, one)
            for one in sorted(files)
            if not one.startswith(".") and one.lower().endswith(SUFFIXES)
        ]
    if not found:
        raise RejectedClip("not_a_file", "a folder without recordings; name a recording itself if its suffix is rare")
    return found


def check_recording(path: str | Path) -> None:
    """What can be said of a file before anything is loaded.

    Raises
    ------
    RejectedClip
        missing, not_a_file, empty_file or unreadable.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write into it
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
    except FileNotFoundError:
        raise RejectedClip("missing", "there is no such file") from None
    except IsADirectoryError:
        raise RejectedClip("not_a_file", "a folder; name the recordings in it") from None
    except (OSError, ValueError) as error:
        raise RejectedClip("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise RejectedClip("not_a_file", "a pipe, socket or device; expected a file")
    if not status.st_size:
        raise RejectedClip("empty_file", "0 bytes")
