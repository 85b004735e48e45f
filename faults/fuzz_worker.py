"""The process that fuzzing runs in: python -m faults.fuzz_worker SEED FIRST COUNT, in a folder of its own.

Its number stands in `progress` before each run, so that whatever ends the process is known by it. Each run may take
10 s of CPU time, 60 s by the clock and 256 MB more than there was at the start: the kernel holds all three, in C code
too. What failed goes to stdout as it happens, a line of JSON each, and at the end a line of figures.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
import random
import re
import resource
import signal
import sys
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

from faults.fuzz_shards import Shards
from faults.fuzz_targets import TOLD, Manifest, ParamsFile, ParamsValues, Quarantine, Tables, Target

PROGRESS = Path("progress")
CPU_SECONDS, CLOCK_SECONDS, MOST_MB = 10, 60, 256
# Of a hundred runs: the quick ones are many.
SHARES = {
    "params_file": 2,
    "params_section": 8,
    "params_values": 25,
    "manifest": 24,
    "tables": 24,
    "quarantine": 7,
    "shards": 10,
}
_ORDER = random.Random(0).sample([name for name, share in SHARES.items() for _ in range(share)], 100)


def target_of(number: int) -> str:
    """Which reader the run of this number is for."""
    return _ORDER[number % len(_ORDER)]


def targets() -> dict[str, Target]:
    """All of them, each in a folder of its own."""
    folders = {name: Path(name).absolute() for name in SHARES}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    return {
        "params_file": ParamsFile(folders["params_file"], whole=True),
        "params_section": ParamsFile(folders["params_section"], whole=False),
        "params_values": ParamsValues(folders["params_values"]),
        "manifest": Manifest(folders["manifest"]),
        "tables": Tables(folders["tables"]),
        "quarantine": Quarantine(folders["quarantine"]),
        "shards": Shards(folders["shards"]),
    }


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) << 10 if found else 0


def main(seed: int, first: int, count: int) -> None:
    """Run the numbers first to first + count - 1."""
    warnings.simplefilter("ignore")  # of patterns that Python will read otherwise one day
    logging.disable()
    made = targets()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    before = _memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + (MOST_MB << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    figures: Counter[str] = Counter()
    with PROGRESS.open("r+b") as handle, mmap.mmap(handle.fileno(), 8) as progress:
        for number in range(first, first + count):
            progress[:] = number.to_bytes(8, "little")
            usage = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(usage.ru_utime + usage.ru_stime) + CPU_SECONDS, hard))
            signal.alarm(CLOCK_SECONDS)
            name = target_of(number)
            target = made[name]
            try:
                target.read(target.make(random.Random(f"{seed} {number}")))
            except TOLD:
                figures["refused"] += 1
            except Exception as error:
                words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                print(json.dumps([number, f"{name}: {words}"]), flush=True)
            else:
                figures["read"] += 1
    signal.alarm(0)
    figures["drawn"] = sum(target.drawn for target in made.values())
    figures["most_mb"] = (_memory("VmHWM") - before) >> 20
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
