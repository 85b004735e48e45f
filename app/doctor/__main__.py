"""Checks set-up, disk, locks, DVC's records, cache and shards, and says of each fault how to mend it. Changes nothing.

    python -m app.doctor [--all]

By default a sample of cache and shards is read, with --all the whole. Status: 0 no fault, 1 some fault, 2 not the
repository's root. It starts without any package, because a missing one is among the things that it looks for.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from app.doctor import disk, repository, set_up, stored
from app.doctor.finding import FAULT, OK, WARNING, Finding, Findings, fault

CHECKS: tuple[Callable[[], Findings], ...] = (
    set_up.python,
    set_up.packages,
    set_up.ffmpeg,
    set_up.processors,
    repository.git,
    repository.params,
    repository.lock_files,
    repository.graph,
    repository.runs,
    repository.rwlock,
    repository.export,
    disk.folders,
    disk.space,
)
SAMPLED: tuple[Callable[[bool], Findings], ...] = (stored.cache, stored.shards)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks, print what they find; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="read the whole cache and all shards, not a sample")
    options = parser.parse_args(arguments)
    if not Path("dvc.yaml").is_file() or not Path("stages").is_dir():
        print(f"doctor: expected dvc.yaml and stages/ in {Path.cwd()}; run from the repository's root", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    checks = [*CHECKS, *(_whole(check, options.all) for check in SAMPLED)]
    for check in checks:
        for finding in _ask(check):
            counts[finding.level] += 1
            print(f"{finding.level:<8} {finding.text}", flush=True)
            if finding.mend:
                print(f"{'':<8}   mend: {finding.mend}", flush=True)
    print(f"{counts[FAULT]} faults, {counts[WARNING]} warnings, {counts[OK]} ok")
    return 1 if counts[FAULT] else 0


def _whole(check: Callable[[bool], Findings], whole: bool) -> Callable[[], Findings]:
    def run() -> Findings:
        return check(whole)

    run.__name__ = check.__name__
    return run


def _ask(check: Callable[[], Findings]) -> list[Finding]:
    """The findings of one check; that it cannot be made is a finding too, and the others go on."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except ImportError as error:
        found.append(fault(f"{check.__name__} cannot be checked: {error}", set_up.RENEW))
    except OSError as error:
        name = shlex.quote(str(error.filename or "."))
        found.append(fault(f"{check.__name__} cannot be checked: {error}", f"look at permissions: ls -la {name}"))
    return found


if __name__ == "__main__":
    sys.exit(main())
