"""A file that HDF5 can always write."""

from __future__ import annotations

import os
from pathlib import Path


class UnfailingFile:
    """A new file in HDF5's hands, to which every write seems to succeed; `check` says what became of it.

    HDF5 cannot close a file that it failed to write: it tries again when the object goes and when the process ends, and
    prints tracebacks or crashes then. So of a full disk it hears nothing, and the writer asks here.

    Has the methods that h5py asks of a file object; the bytes are those of h5py's own way, and so is the speed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw = path.open("w+b", buffering=0)
        self._place = self._size = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first OSError that was met: what is in the file is not what was written."""
        if self._error:
            raise OSError(self._error.errno, self._error.strerror, str(self._path))

    def close(self) -> None:
        self._raw.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: memoryview) -> int:
        done, view = 0, memoryview(data).cast("B")
        try:
            while done < len(view) and not self._error:
                done += os.pwrite(self._raw.fileno(), view[done:], self._place + done)
        except OSError as error:
            self._error = error
        self._place += len(view)
        self._size = max(self._size, self._place)
        return len(view)

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))  # what did not reach the disk
        try:
            os.preadv(self._raw.fileno(), [view], self._place)
        except OSError as error:
            self._error = self._error or error
        self._place += len(view)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """h5py takes nothing without it for a file, and calls `readinto`."""
        found = bytearray(max(0, self._size - self._place) if size < 0 else size)
        self.readinto(memoryview(found))
        return bytes(found)

    def truncate(self, size: int) -> int:
        try:
            if not self._error:
                self._raw.truncate(size)
        except OSError as error:
            self._error = error
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing waits here: `check` and an fsync tell whether it is on the disk."""
