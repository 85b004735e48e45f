"""Hostile model files, offered to predict.

Pickles, Keras archives with Lambdas, HDF5 with links, virtual and external datasets, ONNX with external data, custom
operators, shape bombs, zips with ../, JSON without end.

Must hold: no code runs, no other file is read into the model, 1 GB at most, a refusal in words with status 74 (or 1
for the recording), no traceback.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from faults.project import ROOT
from faults.result import Result, must
from faults.sounds import speech_like

FULL = 25
_MOST_BYTES = 1 << 30


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def _onnx(**parts: Any) -> bytes:
    from onnx import TensorProto, helper

    samples = helper.make_tensor_value_info("samples", TensorProto.FLOAT, [None, None])
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, [None])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)
    nodes = parts.get("nodes") or [helper.make_node("Identity", ["samples"], ["probabilities"])]
    graph = helper.make_graph(nodes, "g", [samples, lengths], [out], parts.get("tensors", []))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in parts.get("domains", []))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for key, value in _metadata(**parts.get("metadata", {})).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    return bytes(model.SerializeToString())


def _metadata(**changes: Any) -> dict[str, Any]:
    decode = {"min_seconds": 0.5, "max_seconds": 60, "timeout_seconds": 20, "ffmpeg": ""}
    features = {"decode": decode, "resample": {"rate_hz": 16000, "quality": "HQ"}}
    window = {"rate_hz": 16000, "samples": 16000, "before": 0, "hop_length": 320, "frames": 50, "stride_frames": 50}
    base = {"format": 1, "languages": ["a", "b"], "unknown_threshold": None, "input": window, "features": features}
    return base | changes


def _external(location: str) -> bytes:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return _onnx(tensors=[tensor], nodes=[helper.make_node("Add", ["samples", "w"], ["probabilities"])])


def _fill(sizes: list[int]) -> bytes:
    """A graph whose output is an array of that size, whatever goes in."""
    from onnx import TensorProto, helper

    shape = helper.make_tensor("shape", TensorProto.INT64, [len(sizes)], sizes)
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["probabilities"])]
    return _onnx(tensors=[shape], nodes=nodes)


def _window(**changes: Any) -> bytes:
    return _onnx(metadata={"input": _metadata()["input"] | changes})


def _loop() -> bytes:
    """A graph that turns 2^62 times."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    inputs = [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)]
    outputs = [value("c2", TensorProto.BOOL, []), value("x2", TensorProto.FLOAT, None)]
    steps = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["x"], ["x2"])]
    body = helper.make_graph(steps, "b", inputs, outputs)
    tensors = [
        helper.make_tensor("m", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("t", TensorProto.BOOL, [], [True]),
    ]
    return _onnx(tensors=tensors, nodes=[helper.make_node("Loop", ["m", "t", "samples"], ["probabilities"], body=body)])


def _zip(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"x" * 100)
    return out.getvalue()


def _keras(canary: Path) -> bytes:
    code = f"__import__('os').system('touch {canary}')"
    config = {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": code}}}}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    return out.getvalue()


Make = Callable[[Path, Path], dict[str, bytes]]  # (canary that code would make, secret file) -> files of the model


MODELS: list[tuple[str, Make]] = [
    ("pickle as model.onnx", lambda c, s: {"model.onnx": pickle.dumps(_Touch(c))}),
    ("pickle as weights", lambda c, s: {"model.json": b"{}", "model.weights.h5": pickle.dumps(_Touch(c))}),
    ("pickle as model.json", lambda c, s: {"model.json": pickle.dumps(_Touch(c)), "model.weights.h5": b""}),
    ("numpy pickle as model.onnx", lambda c, s: {"model.onnx": _npy(c)}),
    ("Keras archive with a Lambda", lambda c, s: {"model.onnx": _keras(c)}),
    ("Keras archive as weights", lambda c, s: {"model.json": b"{}", "model.weights.h5": _keras(c)}),
    ("zip with ../", lambda c, s: {"model.onnx": _zip("../../evil")}),
    ("zip with ../ as weights", lambda c, s: {"model.json": b"{}", "model.weights.h5": _zip("../../evil")}),
    ("external data, absolute", lambda c, s: {"model.onnx": _external(str(s))}),
    ("external data, ../", lambda c, s: {"model.onnx": _external("../secret.bin")}),
    ("external data, /etc/passwd", lambda c, s: {"model.onnx": _external("../../../../../../../etc/passwd")}),
    ("output of 40 GB", lambda c, s: {"model.onnx": _fill([100_000, 100_000])}),
    ("output of a negative size", lambda c, s: {"model.onnx": _fill([-5, 7])}),
    ("operator of a foreign domain", lambda c, s: {"model.onnx": _foreign()}),
    ("window of 2^40 samples", lambda c, s: {"model.onnx": _window(samples=1 << 40)}),
    ("hop of zero", lambda c, s: {"model.onnx": _window(hop_length=0)}),
    ("negative frames", lambda c, s: {"model.onnx": _window(frames=-1, stride_frames=0)}),
    ("unknown key in the window", lambda c, s: {"model.onnx": _window(evil=1)}),
    ("metadata nested 100,000 deep", lambda c, s: {"model.onnx": _onnx(metadata={"languages": "[" * 100_000})}),
    ("model.json nested 100,000 deep", lambda c, s: {"model.json": b"[" * 100_000, "model.weights.h5": b"x"}),
    ("ffmpeg of the model's choice", lambda c, s: {"model.onnx": _binary(c)}),
    ("a million languages", lambda c, s: {"model.onnx": _onnx(metadata={"languages": [str(i) for i in range(10**6)]})}),
    ("random bytes", lambda c, s: {"model.onnx": np.random.default_rng(0).bytes(100_000)}),
    ("truncated", lambda c, s: {"model.onnx": _onnx()[:-40]}),
    ("loop without end", lambda c, s: {"model.onnx": _loop()}),
]


def _npy(canary: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([_Touch(canary)], object), allow_pickle=True)
    return out.getvalue()


def _foreign() -> bytes:
    from onnx import helper

    return _onnx(
        nodes=[helper.make_node("Evil", ["samples"], ["probabilities"], domain="evil.org")], domains=["evil.org"]
    )


def _binary(canary: Path) -> bytes:
    program = canary.with_name("program")
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    features = _metadata()["features"]
    features["decode"]["ffmpeg"] = str(program)
    return _onnx(metadata={"features": features})


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """Each in a process of its own, which may have two gigabytes and a minute."""
    result = Result()
    sound, secret = workdir / "a.wav", workdir / "secret.bin"
    soundfile.write(sound, speech_like(1, 3.0), 16000)
    odd = workdir / "b.m4a"
    odd.write_bytes(np.random.default_rng(1).bytes(5000))
    secret.write_bytes(np.full(4, 12345.0, np.float32).tobytes())
    for number in range(first, min(first + count, len(MODELS))):
        what, make = MODELS[number]
        folder, canary = workdir / f"model{number}", workdir / f"canary{number}"
        folder.mkdir()
        for name, content in make(canary, secret).items():
            (folder / name).write_bytes(content)
        with result.attempt(number, what):
            _offer(result, folder, canary, [sound, odd])
    return result


def _offer(result: Result, folder: Path, canary: Path, sounds: list[Path]) -> None:
    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))

    command = [sys.executable, "-m", "app.predict", "--json", "--model", str(folder), *map(str, sounds)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limits,
        start_new_session=True,
    )
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        must(False, "no answer within 60 s")
    watcher.join()
    peak = max(peaks)
    result.most("predict_mb", peak >> 20)
    must(not canary.exists(), "its code ran")
    must("Traceback" not in output, output[-500:])
    must(process.returncode in (1, 2, 74), f"status {process.returncode}: {output[-300:]}")
    must("12345" not in output, "another file was read into the model")
    must(peak <= _MOST_BYTES, f"{peak >> 20} MB")


def _watch(pid: int, peaks: list[int]) -> None:
    """Collect a process's largest resident memory so far, in bytes, until it ends.

    Not ru_maxrss: a process starts with that of the one that started it.
    """
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is None:  # it has ended, or not begun
            if "State:\tZ" in status:
                return
        else:
            peaks.append(int(found[1]) << 10)
        time.sleep(0.02)
