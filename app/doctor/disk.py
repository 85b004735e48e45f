"""Can the pipeline write where it must, and is there room for what this corpus will need?"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from app.doctor.finding import Findings, fault, few, ok, warning

FOLDERS = (".", "data", "metrics", "models", ".dvc", ".dvc/tmp")
_SAMPLED_FILES = 40
_LISTED_FILES = 200_000
_LEAST_GB = 1.0
_MODELS_GB = 0.5
_SPARE = 1.1
_RATE_HZ = 44_100
_SOUND_BYTES_PER_SECOND = 8_000  # MP3 at 64 kbit/s: the guess where no file's length can be read


def folders() -> Findings:
    """Everything that DVC and the stages write into can be written, and by this user."""
    closed = [name for name in FOLDERS if Path(name).is_dir() and not os.access(name, os.W_OK | os.X_OK)]
    closed += [str(path) for path in sorted(cache_folder().glob("files/md5/*")) if not os.access(path, os.W_OK)]
    if closed:
        names = " ".join(shlex.quote(name) for name in closed[:3])
        yield fault(
            f"{len(closed)} folders cannot be written: {few(closed)}",
            f'sudo chown -R "$USER" {names}  # a cache that several people share: dvc config cache.shared group',
        )
    else:
        yield ok("all folders can be written")
    if not closed and not _hard_links():
        yield warning(
            "no hard links between data/ and DVC's cache here: everything stands on the disk twice",
            "dvc cache dir ../dvc-cache  # a folder on the disk of data/; or leave it, where there is room",
        )


def _hard_links() -> bool:
    if not cache_folder().is_dir() or not Path("data").is_dir():
        return True
    with tempfile.NamedTemporaryFile(dir=cache_folder()) as source, tempfile.TemporaryDirectory(dir="data") as folder:
        try:
            os.link(source.name, Path(folder) / "link")
        except OSError:
            return False
    return True


@cache
def cache_folder() -> Path:
    """Where DVC's cache stands: `dvc cache dir` may have moved it out of the repository."""
    command = ["dvc", "cache", "dir"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return Path(done.stdout.strip() or ".dvc/cache").absolute()


def space() -> Findings:
    """Free bytes against what the stages will still write for this corpus, by its length and the params."""
    free_gb = shutil.disk_usage(".").free / 1e9
    wanted_gb, told = _wanted()
    mend = "make clean-reuse; dvc gc --workspace  # the second forgets the data of other commits and experiments"
    if free_gb < max(wanted_gb, _LEAST_GB):
        yield fault(f"{free_gb:.1f} GB free, {told}", mend)
    elif free_gb < _SPARE * wanted_gb + _LEAST_GB:
        yield warning(f"{free_gb:.1f} GB free, just enough: {told}", mend)
    else:
        yield ok(f"{free_gb:.1f} GB free, {told}")


def _wanted() -> tuple[float, str]:
    """Gigabytes that a run will add, and how that was reckoned."""
    from stages.pipeline.errors import ParamsError
    from stages.pipeline.params import load_params

    try:
        params = load_params()
    except ParamsError:
        return 0.0, "what the corpus needs is not known, as params.yaml has faults"
    corpus = Path(params.dataset)
    if corpus.exists():
        seconds, rate_hz = _length(corpus if corpus.is_dir() else corpus.parent)
    else:
        seconds, rate_hz = _locked_bytes(corpus) / _SOUND_BYTES_PER_SECOND, _RATE_HZ
    if not seconds:
        return 0.0, f"what the corpus needs is not known, as {corpus} is not there yet"
    frames = params.resample.rate_hz / params.logmel.hop_length
    resize = params.resize
    per_second = {  # bytes
        "data/decoded": 2.0 * rate_hz,
        "data/resampled": 2.0 * params.resample.rate_hz,
        "data/logmel": 2.0 * params.logmel.n_mels * frames,
        "data/features": resize.height * resize.width / min(resize.stride_seconds, resize.window_seconds),
    }
    whole = sum(per_second.values()) * seconds
    present = sum(min(_size(Path(name)), each * seconds) for name, each in per_second.items())
    wanted_gb = max(0.0, whole - present) / 1e9 * (1 if _hard_links() else 2) + _MODELS_GB
    told = f"a run will want about {wanted_gb:.1f} GB more ({seconds / 3600:.1f} hours of sound in {corpus})"
    return wanted_gb, told


def _locked_bytes(corpus: Path) -> float:
    """Size of a corpus that is not built yet, as the dvc.lock beside it says; 0 where it doesn't."""
    from yaml import YAMLError

    from stages.pipeline.yaml12 import load_yaml12

    try:
        stages = load_yaml12((corpus.parent / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        sizes = [out["size"] for stage in stages for out in stage["outs"] if out["path"] == corpus.name]
        return float(sum(sizes))
    except (OSError, YAMLError, LookupError, AttributeError, TypeError):
        return 0.0


def _length(folder: Path) -> tuple[float, float]:
    """(seconds of sound, mean sample rate in Hz) of a folder, from its bytes and a sample of its files."""
    import soundfile

    files = [entry for _, entry in zip(range(_LISTED_FILES), _walk(str(folder)), strict=False)]
    size = sum(entry.stat().st_size for entry in files)
    seconds, sampled, rates = 0.0, 0, []
    for entry in random.sample(files, min(_SAMPLED_FILES, len(files))):
        try:
            info = soundfile.info(entry.path)
        except (RuntimeError, OSError):
            continue
        seconds, sampled = seconds + info.duration, sampled + entry.stat().st_size
        rates.append(info.samplerate)
    if not seconds:
        return size / _SOUND_BYTES_PER_SECOND, _RATE_HZ
    return size * seconds / sampled, sum(rates) / len(rates)


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file():
                yield entry


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.h5"))
