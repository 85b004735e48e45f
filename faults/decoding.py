"""Puts files through decoding workers and sees what becomes of file and worker."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from faults.project import ROOT
from faults.result import Broken

REASONS = {"not_audio", "no_audio_stream", "undecodable", "timeout", "too_short", "silent", "not_finite", "bomb"}
_GRACE_SECONDS = 20  # past the limit, on a machine with other work


class Decoder:
    """A worker that is started again when a file has killed it."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def __call__(self, path: Path) -> dict[str, Any]:
        """What came of the file.

        Raises
        ------
        Broken
            The worker died, hung, or met an error that is no rejection.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.decoder", json.dumps(self._params)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        process = self._process
        if not (process.stdin and process.stdout and process.stderr):
            raise Broken("the worker has no pipes")
        process.stdin.write(os.fsencode(path).hex().encode() + b"\n")
        process.stdin.flush()
        limit = self._params["timeout_seconds"] + _GRACE_SECONDS
        if not select.select([process.stdout], [], [], limit)[0]:
            self._end()
            raise Broken(f"no answer within {limit} s")
        line = process.stdout.readline()
        if not line:
            status, errors = process.wait(), process.stderr.read().decode(errors="replace")[-300:]
            self._process = None
            raise Broken(f"the worker ended with status {status}: {errors}")
        record: dict[str, Any] = json.loads(line)
        if record.get("reason", "silent") not in REASONS:
            raise Broken(f"a reason that the README does not have: {record}")
        return record

    def restart(self) -> None:
        """A fresh worker for the next file, so that its peak of memory is its own."""
        self._end()


def numbers(first: int, count: int) -> Iterable[int]:
    return range(first, first + count)


def spread_over(values: list[Any], count: int) -> Iterator[Any]:
    """`count` of the values in turn."""
    for number in range(count):
        yield values[number % len(values)]
