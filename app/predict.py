"""Which language is spoken in a recording?

    python -m app.predict [--format F] [--timeline] [--languages es,pt] [--explain PNG] FILE_OR_FOLDER...
    python -m app.predict --microphone
    arecord -t raw -f S16_LE -r 16000 | python -m app.predict --raw 16000

One line for each recording on standard output: path, language, probability, then the runners-up; `unknown` before them
where the best probability is below the model's threshold, `no_speech` where nobody speaks. A folder stands for the
recordings in it and below, `-` for one on standard input. A file that cannot be used gets its line on standard error
(with --format json, an object with "error" on standard output) and the others go on. --microphone and --raw answer
every second for the last seconds, until Ctrl-C or the end of the sound. docs/predict.md has all of it.

Status: 0 all recognised; 1 some file was not; 2 wrong usage; 74 no model that can be used.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app import formats
from app.recognizer import EXPORT, MODEL, Recognition, Recognizer, check_model, default_model, stale_export
from app.recordings import recordings_in
from stages.pipeline.errors import ParamsError, PipelineError, RejectedClip, StorageError
from stages.pipeline.paths import escape_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

OK, SOME_FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 130, 141
STANDARD_INPUT = "-"
_PROGRESS_FROM = 20  # recordings
_LONG_BYTES = 5_000_000  # of few recordings: minutes of sound


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    live = options.microphone or options.raw is not None
    if bool(options.files) == live or (options.microphone and options.raw is not None):
        parser.error("expected recordings, or --microphone, or --raw HZ")
    if live and (options.format not in ("text", "json") or options.explain or options.timeline):
        parser.error("live sound is answered as text or json, without --explain and --timeline")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        return _run(options)
    except BrokenPipeError:  # `| head` has seen enough; keep Python from telling so when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except PipelineError as error:
        print(f"predict: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ParamsError) else StorageError.exit_code


def _run(options: argparse.Namespace) -> int:
    check_model(options.model or default_model())
    if options.microphone or options.raw is not None:
        return _listen(options)
    with _standard_input(options.files) as (files, shown):
        return _predict(files, shown, options)


def _listen(options: argparse.Namespace) -> int:
    """Answer for live sound, a line a second."""
    from app.microphone import answers, microphone_blocks, raw_blocks

    recognizer = _recognizer(options)
    if options.microphone:
        name, (rate_hz, blocks) = "microphone", microphone_blocks()
        print("listening; Ctrl-C ends", file=sys.stderr)
    else:
        name, rate_hz, blocks = "stdin", options.raw, raw_blocks(sys.stdin.buffer, options.raw)
    heard = 0.0
    try:
        for heard, found in answers(recognizer, blocks, rate_hz, options.languages):
            if options.format == "json":
                line = formats.json_line(name, found, options.top, at=heard)
            else:
                line = formats.live(heard, found, options.top)
            print(line, end="", flush=True)
    except KeyboardInterrupt:  # how one stops listening
        return OK
    if not heard:
        print(f"{name}: empty_file: no sound came", file=sys.stderr)
        return SOME_FAILED
    return OK


def _predict(files: list[str], shown: dict[str, str], options: argparse.Namespace) -> int:
    """Answer for each; `shown` says what to call a file where that is not its path."""
    faults = 0

    def tell(name: str, fault: RejectedClip) -> None:
        nonlocal faults
        faults += 1
        if options.format == "json":
            print(formats.json_fault(name, fault), end="", flush=True)
        else:
            print(f"{escape_path(name)}: {fault.reason}: {fault.detail}", file=sys.stderr, flush=True)

    present: list[str] = []
    for name in files:  # all of them first: a wrong path is said before a model is loaded
        try:
            present += recordings_in(name)
        except RejectedClip as fault:
            tell(shown.get(name, name), fault)
    if not present:
        return SOME_FAILED
    if len(present) > 1 and (options.format == "webvtt" or options.explain):
        raise ParamsError(f"expected one recording for a WebVTT file or a picture, received {len(present)}")
    if options.model is None and stale_export():
        print(
            f"predict: {EXPORT} was made from an earlier training than {MODEL}; run `dvc repro export`, or say "
            f"--model {MODEL}",
            file=sys.stderr,
        )
    recognizer = _recognizer(options)
    write = _writer(options)
    if options.format == "csv":
        print(formats.CSV_HEAD, end="")
    for name, found in zip(present, _found(recognizer, present, options), strict=True):
        if isinstance(found, RejectedClip):
            tell(shown.get(name, name), found)
        else:
            print(write(shown.get(name, name), found), end="", flush=True)
    if options.explain and not faults:
        from app.explain import draw, explain

        try:
            draw(explain(recognizer, present[0], options.languages), options.explain)
        except RejectedClip as fault:
            tell(shown.get(present[0], present[0]), fault)
        except OSError as error:
            raise StorageError(f"{options.explain} could not be written: {error.strerror or error}") from None
    return SOME_FAILED if faults else OK


def _recognizer(options: argparse.Namespace) -> Recognizer:
    recognizer = Recognizer(options.model, all_sound=options.all_sound)
    recognizer.allowed(options.languages)  # a language that it doesn't know is told once, and at once
    return recognizer


def _writer(options: argparse.Namespace) -> Callable[[str, Recognition], str]:
    if options.format == "json":
        return lambda name, found: formats.json_line(name, found, options.top)
    if options.format == "text":
        return lambda name, found: formats.text(name, found, options.top, options.timeline)
    return {"csv": formats.csv_lines, "rttm": formats.rttm, "webvtt": formats.webvtt}[options.format]


def _found(
    recognizer: Recognizer, present: list[str], options: argparse.Namespace
) -> Iterator[Recognition | RejectedClip]:
    """The answers, with a bar on standard error where the work is long, somebody watches and the answers go elsewhere.

    For one recording, or few, the bar goes by seconds of sound; for many by recordings.
    """
    watched = sys.stderr.isatty() and not (sys.stdout.isatty() and len(present) >= _PROGRESS_FROM)
    if not watched or (len(present) < _PROGRESS_FROM and sum(map(os.path.getsize, present)) < _LONG_BYTES):
        yield from recognizer.recognize_all(present, options.languages)
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:  # it is no part of the `predict` extra
        yield from recognizer.recognize_all(present, options.languages)
        return
    # Rich would otherwise take what is printed meanwhile to standard error, where the bar is
    bar = partial(Progress, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    if len(present) >= _PROGRESS_FROM:
        with bar() as progress:
            found_ones = recognizer.recognize_all(present, options.languages)
            yield from progress.track(found_ones, total=len(present), description="recognising")
        return
    for number, path in enumerate(present, 1):
        with bar() as progress:
            task = progress.add_task(f"recognising {number} of {len(present)}", total=1.0)
            found = recognizer.attempt(path, options.languages, partial(_show, progress, task))
        yield found


def _show(progress: Progress, task: TaskID, share: float) -> None:
    progress.update(task, completed=share)


@contextmanager
def _standard_input(files: list[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Where a file is `-`, what comes on standard input as a temporary file, since decoders want to seek."""
    if STANDARD_INPUT not in files:
        yield files, {}
        return
    with tempfile.NamedTemporaryFile(prefix="stdin-") as copy:
        try:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
        except OSError as error:
            raise StorageError(
                f"what comes on standard input needs room in {tempfile.gettempdir()}: {error.strerror or error}; free "
                "some, or name another folder in TMPDIR"
            ) from None
        yield [copy.name if name == STANDARD_INPUT else name for name in files], {copy.name: "stdin"}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "whole number from 1"  # argparse tells it: "invalid whole number from 1 value: '0'"


def _languages(text: str) -> tuple[str, ...]:
    languages = tuple(one.strip() for one in text.split(",") if one.strip())
    if not languages:
        raise argparse.ArgumentTypeError("expected languages between commas, es,pt")
    return languages


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.predict",
        description="Tell which language is spoken in recordings of any format that ffmpeg reads.",
        epilog="exit status: 0 all recognised, 1 some file was not, 2 wrong usage, 74 no model. In paths, bytes that "
        "are no plain text are percent-escaped, as in a URL.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="recording, or folder of them, or - for one on standard input; put -- before names that begin with -",
    )
    parser.add_argument(
        "--format",
        choices=formats.FORMATS,
        default="text",
        help="text: a line for each recording; json: an object a line, faults too; csv, rttm, webvtt: who speaks "
        "which language from when to when",
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="short for --format json")
    parser.add_argument("--timeline", action="store_true", help="text: a line for each segment as well")
    parser.add_argument(
        "--languages", type=_languages, metavar="L,L...", help="answer with one of these only; probabilities sum to 1"
    )
    parser.add_argument("--top", type=_positive, metavar="N", help="languages to list (3; with --format json all)")
    parser.add_argument("--explain", type=Path, metavar="PNG", help="draw what counted for the answer")
    parser.add_argument("--all-sound", action="store_true", help="take music, noise and silence for speech as well")
    parser.add_argument("--microphone", action="store_true", help="listen, and tell every second")
    parser.add_argument(
        "--raw",
        type=_positive,
        metavar="HZ",
        help="the same of 16-bit little-endian mono samples on standard input, as arecord and ffmpeg write them",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help=f"exported or trained model ({EXPORT}, or {MODEL} where nothing was exported)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
