"""A decoding worker to be hurt: paths on standard input, what came of each on standard output, one JSON line each.

It calls what the decode stage calls, under the limits that the stage's workers have.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from stages.decode import decode_stream
from stages.pipeline.data_params import DecodeParams
from stages.pipeline.errors import RejectedClip
from stages.pipeline.limits import decoding_limits
from stages.pipeline.recording_file import open_file


def peak_mb() -> tuple[float, float]:
    """Largest resident memory so far, in MB: of this process, and of the largest ffmpeg."""
    # not ru_maxrss: a process starts with that of the one that started it
    status = Path("/proc/self/status").read_text(encoding="ascii")
    own = int(status.partition("VmHWM:")[2].split()[0])
    return own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def cpu_seconds() -> tuple[float, ...]:
    """Of this process and of its ffmpeg, which run side by side."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return tuple(one.ru_utime + one.ru_stime for one in usage)


def main() -> None:
    params = DecodeParams.model_validate(json.loads(sys.argv[1]))
    for line in sys.stdin:
        path = os.fsdecode(bytes.fromhex(line.strip()))
        start, cpu = time.monotonic(), cpu_seconds()
        record: dict[str, Any] = {}
        try:
            with decoding_limits(params.timeout_seconds), open_file(Path(path)) as handle:
                signal = decode_stream(handle, path, params)
                record = {"seconds_kept": sum(len(block) for block in signal.blocks) / signal.rate_hz}
        except RejectedClip as rejected:
            record = {"reason": rejected.reason, "detail": rejected.detail}
        record |= {
            "took": time.monotonic() - start,
            "cpu": max(b - a for a, b in zip(cpu, cpu_seconds(), strict=True)),
            "peak_mb": peak_mb(),
        }
        record["files"] = len(os.listdir("/proc/self/fd"))
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
