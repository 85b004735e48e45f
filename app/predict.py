"""Which language is spoken in a recording?

    python -m app.predict [--json] [--top N] [--model FOLDER] FILE_OR_FOLDER...

One line for each recording on standard output: path, language, probability, then the runners-up; `unknown` before them
where the best probability is below the model's threshold. A folder stands for
the recordings in it and below. A file that cannot be used gets its line on standard error (with --json, an object with
"error" on standard output) and the others go on.

Status: 0 all recognised; 1 some file was not; 2 wrong usage; 74 no model that can be used.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.recognizer import EXPORT, MODEL, UNKNOWN, Recognition, Recognizer, check_model, default_model, stale_export
from app.recordings import recordings_in
from stages.pipeline.errors import ParamsError, PipelineError, RejectedClip, StorageError
from stages.pipeline.paths import escape_path

OK, SOME_FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 130, 141
_TOP = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        return _predict(options.files, options.model, options.top, options.json)
    except BrokenPipeError:  # `| head` has seen enough; keep Python from telling so when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def _predict(files: list[str], folder: Path | None, top: int | None, as_json: bool) -> int:
    faults = 0

    def tell(name: str, fault: RejectedClip) -> None:
        nonlocal faults
        faults += 1
        _tell_fault(name, fault, as_json)

    try:
        check_model(folder or default_model())
        present: list[str] = []
        for name in files:  # all of them first: a wrong path is said before a model is loaded
            try:
                present += recordings_in(name)
            except RejectedClip as fault:
                tell(name, fault)
        if not present:
            return SOME_FAILED
        if folder is None and stale_export():
            print(
                f"predict: {EXPORT} was made from an earlier training than {MODEL}; run `dvc repro export`, or say "
                f"--model {MODEL}",
                file=sys.stderr,
            )
        found_ones = Recognizer(folder).recognize_all(present)
        for name, found in zip(present, found_ones, strict=True):
            if isinstance(found, RejectedClip):
                tell(name, found)
            else:
                print(_json_line(name, found, top) if as_json else _line(name, found, top or _TOP), flush=True)
    except PipelineError as error:
        print(f"predict: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ParamsError) else StorageError.exit_code
    return SOME_FAILED if faults else OK


def _line(name: str, found: Recognition, top: int) -> str:
    ranking = [f"{language} {p:.3f}" for language, p in found.ranking[:top]]
    return "  ".join([escape_path(name), *([UNKNOWN] if found.language == UNKNOWN else []), *ranking])


def _json_line(name: str, found: Recognition, top: int | None) -> str:
    record = {
        "path": escape_path(name),
        "language": found.language,
        "probability": round(found.probability, 6),
        "ranking": [[language, round(p, 6)] for language, p in found.ranking[:top]],
        "windows": found.windows,
        "seconds": round(found.seconds, 3),
    }
    return json.dumps(record)


def _tell_fault(name: str, fault: RejectedClip, as_json: bool) -> None:
    if as_json:
        error = {"reason": fault.reason, "detail": fault.detail}
        print(json.dumps({"path": escape_path(name), "error": error}), flush=True)
    else:
        print(f"{escape_path(name)}: {fault.reason}: {fault.detail}", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "whole number from 1"  # argparse tells it: "invalid whole number from 1 value: '0'"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.predict",
        description="Tell which language is spoken in recordings of any format that ffmpeg reads.",
        epilog="exit status: 0 all recognised, 1 some file was not, 2 wrong usage, 74 no model. In paths, bytes that "
        "are no plain text are percent-escaped, as in a URL.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="recording, or folder of them; put -- before names that begin with -"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, faults too")
    parser.add_argument("--top", type=_positive, metavar="N", help="languages to list (3; with --json all)")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help=f"exported or trained model ({EXPORT}, or {MODEL} where nothing was exported)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
