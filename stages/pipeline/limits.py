"""Limits on what decoding one recording may take, held by the kernel: a fault of a decoder ends as an error."""

from __future__ import annotations

import math
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY_BYTES = 512 << 20
_GRACE_SECONDS = 30
_STATM = Path("/proc/self/statm")


@contextmanager
def decoding_limits(timeout_seconds: float) -> Iterator[None]:
    """Within the block this process may take 512 MB more than it has, and the time limit and 30 s of CPU time.

    More memory is refused to the decoder. More time ends the process, and the stage with an error: the decoder hangs
    in a call that nothing else can end. Only in a process's main thread, as the limits are those of the process: on a
    Dask cluster, the workers' own limits hold.
    """
    if threading.current_thread() is not threading.main_thread() or not _STATM.exists():
        yield
        return
    pages = int(_STATM.read_text(encoding="ascii").split()[5])  # private writable memory, as RLIMIT_DATA counts it
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime + timeout_seconds + _GRACE_SECONDS
    wanted = {
        resource.RLIMIT_DATA: pages * resource.getpagesize() + _MEMORY_BYTES,
        resource.RLIMIT_CPU: math.ceil(seconds),
    }
    before = {limit: resource.getrlimit(limit) for limit in wanted}
    for limit, most in wanted.items():
        hard = before[limit][1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        for limit, pair in before.items():
            resource.setrlimit(limit, pair)
