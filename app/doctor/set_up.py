"""Python, packages, ffmpeg, processors and memory."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from app.doctor.finding import Findings, fault, few, ok, warning

LOCK = Path("requirements.lock")
RENEW = "rm -f .venv/.ready && make setup"
EDIT_FFMPEG = "$EDITOR params.yaml  # decode.ffmpeg: name one that works"
_OLDEST, _NEWEST = (3, 11), (3, 12)
_DRIVER = Path("/proc/driver/nvidia/version")
_TENSORFLOW_SECONDS = 120


def python() -> Findings:
    """One of the versions that the packages are pinned for."""
    version = sys.version.split()[0]
    if _OLDEST <= sys.version_info[:2] <= _NEWEST:
        yield ok(f"Python {version}")
    else:
        yield fault(
            f"expected Python 3.11 or 3.12, received {version} ({sys.executable})",
            "rm -rf .venv && make setup PYTHON=/path/to/python3.11",
        )


def packages() -> Findings:
    """What requirements.lock pins is installed, in these versions."""
    try:
        text = LOCK.read_text(encoding="utf-8")
    except FileNotFoundError:
        yield fault(f"{LOCK} is missing", f"git checkout -- {LOCK}")
        return
    missing, other, count = [], [], 0
    for name, version, marker in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+) *(?:; ([^\\\n]*))?", text, re.MULTILINE):
        if marker and not _applies(marker):
            continue
        count += 1
        installed = _version(name)
        if installed is None and name == "tensorflow-cpu":  # `make setup-gpu` puts the other build in its place
            installed = _version("tensorflow")
        if installed is None:
            missing.append(name)
        elif installed != version:
            other.append(f"{name} {installed} (pinned: {version})")
    if missing:
        yield fault(f"{len(missing)} of {count} packages are missing: {few(missing)}", RENEW)
    if other:
        yield warning(f"{len(other)} packages in another version than {LOCK} pins: {few(other)}", RENEW)
    if not missing and not other:
        yield ok(f"{count} packages as {LOCK} pins them")


def _applies(marker: str) -> bool:
    from packaging.markers import Marker

    return Marker(marker.strip()).evaluate()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def ffmpeg() -> Findings:
    """The binary that decode would take starts."""
    from stages.pipeline.errors import ParamsError, PipelineError
    from stages.pipeline.ffmpeg_pipe import ffmpeg_version, find_ffmpeg
    from stages.pipeline.params import load_params

    try:
        named = load_params().decode.ffmpeg
    except ParamsError:
        named = ""  # told by another check
    try:
        binary = find_ffmpeg(named)
    except ParamsError as error:
        yield fault(str(error), "pip install imageio-ffmpeg  # or name one in params.yaml: decode.ffmpeg")
        return
    try:
        yield ok(f"{ffmpeg_version(binary).split(' Copyright')[0]} ({binary})")
    except PipelineError as error:
        yield fault(str(error), EDIT_FFMPEG)


def processors() -> Findings:
    """Cores, memory, and whether TensorFlow sees the GPU that the machine has."""
    import psutil

    cores, memory_gb = len(os.sched_getaffinity(0)), psutil.virtual_memory().available / 1e9
    yield ok(f"{cores} cores, {memory_gb:.1f} GB of memory free")
    yield from _memory(memory_gb)
    if not _DRIVER.exists():
        yield ok("no NVIDIA driver: training runs on the cores")
    elif _version("tensorflow") is None:
        yield warning("an NVIDIA driver is here, but TensorFlow's build is for the cores", "make setup-gpu")
    else:
        code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=_TENSORFLOW_SECONDS
        )
        if done.returncode == 0 and int(done.stdout.split()[-1]):
            yield ok(f"TensorFlow sees {done.stdout.split()[-1]} GPUs")
        else:
            last = (done.stderr.strip().splitlines() or ["it lists none"])[-1]
            yield warning(f"TensorFlow does not see the GPU: {last[:200]}", "nvidia-smi && make setup-gpu")


def _memory(free_gb: float) -> Findings:
    from stages.pipeline.errors import ParamsError
    from stages.pipeline.params import load_params

    try:
        wanted = load_params().train.memory_gb
    except ParamsError:
        return
    if wanted > free_gb:
        yield warning(
            f"train.memory_gb allows {wanted:g} GB of images in memory, {free_gb:.1f} GB are free",
            "$EDITOR params.yaml  # lower train.memory_gb, beyond which images are streamed, or end other programs",
        )
