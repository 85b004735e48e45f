"""The experiments as `dvc exp show` lists them, trimmed to what can be compared: scores, intervals, changed params."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from stages.pipeline.errors import StorageError

COMMITS = 10
_TIMEOUT_SECONDS = 120.0
_FRESH_SECONDS = 60.0
_FAULT_FRESH_SECONDS = 5.0  # who mends it need not wait long, who asks a hundred times starts no hundred DVCs
_METRICS = "metrics/evaluate/metrics.json"
_PARAMS = "params.yaml"
_SCORES = ("accuracy", "macro_f1", "ece", "cavg")
# What changes no result, or is no choice of the experimenter's.
_LEFT_OUT = ("execution.",)


class Experiments:
    """Asks DVC, which takes seconds, at most once a minute; visitors who come together share an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: dict[str, Any] = {}
        self._fault = ""
        self._fresh_until = float("-inf")

    def read(self) -> dict[str, Any]:
        """{"rows": [...], "params": keys that differ}.

        Raises
        ------
        StorageError
            DVC failed or took too long.
        """
        with self._lock:
            if time.monotonic() > self._fresh_until:
                try:
                    self._answer, self._fault = digest(_ask_dvc()), ""
                except StorageError as fault:
                    self._fault = str(fault)
                self._fresh_until = time.monotonic() + (_FAULT_FRESH_SECONDS if self._fault else _FRESH_SECONDS)
            if self._fault:
                raise StorageError(self._fault)
            return self._answer


def _ask_dvc() -> list[Any]:
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(COMMITS)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=os.environ | {"DVC_NO_ANALYTICS": "1"},
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise StorageError(
            f"`dvc exp show` took longer than {_TIMEOUT_SECONDS:g} s; run it in a terminal to see why"
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")
        raise StorageError(f"`dvc exp show` failed: {last}")
    found: list[Any] = json.loads(done.stdout)
    return found


def digest(revisions: list[Any]) -> dict[str, Any]:
    """The rows of `dvc exp show --json`, newest commit first, each commit's experiments after it.

    Left out are commits without scores, and those with the scores and params of the next newer one.

    A row : name, rev, kind ("workspace", "commit" or "experiment"), of (the commit's name), created, scores
    (name -> [value, low, high]), n_clips, split, params (those in which rows differ), fault.
    """
    rows = []
    for revision in revisions:
        is_workspace = revision["rev"] == "workspace"
        name = "working folder" if is_workspace else revision.get("name") or revision["rev"][:7]
        rows.append(_row(revision, name, "workspace" if is_workspace else "commit", ""))
        for experiment in revision.get("experiments") or []:
            newest = (experiment.get("revs") or [experiment])[0]
            own = newest.get("name") or experiment.get("name") or str(newest["rev"])[:7]
            rows.append(_row(newest, own, "experiment", name))
    rows = [row for row in rows if row["scores"] or row["fault"] or row["kind"] == "experiment"]
    differing = sorted(
        key
        for key in {key for row in rows for key in row["params"]}
        if not key.startswith(_LEFT_OUT) and len({row["params"].get(key) for row in rows if row["params"]}) > 1
    )
    rows = _without_repeats(rows)
    for row in rows:
        row["params"] = {key: row["params"].get(key) for key in differing} if row["params"] else {}
    return {"rows": rows, "params": differing}


def _without_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    newer: dict[str, Any] = {}
    for row in rows:
        if row["kind"] == "commit":
            if newer and (row["scores"], row["params"]) == (newer["scores"], newer["params"]):
                continue
            newer = row
        kept.append(row)
    return kept


def _row(revision: dict[str, Any], name: str, kind: str, of: str) -> dict[str, Any]:
    data = revision.get("data") or {}
    metrics = ((data.get("metrics") or {}).get(_METRICS) or {}).get("data") or {}
    params = ((data.get("params") or {}).get(_PARAMS) or {}).get("data") or {}
    error = revision.get("error") or {}
    return {
        "name": name,
        "rev": str(revision["rev"])[:7],
        "kind": kind,
        "of": of,
        "created": data.get("timestamp"),
        "scores": {
            one: [metrics[one], metrics.get(f"{one}_low"), metrics.get(f"{one}_high")]
            for one in _SCORES
            if isinstance(metrics.get(one), int | float)
        },
        "n_clips": metrics.get("n_clips"),
        "split": metrics.get("split", ""),
        "params": dict(_flat(params)),
        "fault": str(error.get("msg") or error.get("type") or "") if isinstance(error, dict) else str(error),
    }


def _flat(values: dict[str, Any], before: str = "") -> Any:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str | int | float | bool) else json.dumps(value)
