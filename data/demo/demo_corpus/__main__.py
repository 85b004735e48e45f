"""`python -m demo_corpus`: builds the corpus in this folder."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status: 0 built, 1 failed, 2 params, 75 another build is running."""
    parser = argparse.ArgumentParser(
        prog="python -m demo_corpus",
        description="Synthesises the demo corpus: MP3 clips and corpus.csv (path, language, group, split).",
    )
    parser.add_argument("--out", type=Path, default=Path("clips"), help="the folder to build (default: clips)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the knobs (default: params.yaml)")
    parser.add_argument("--section", default="", help="the part of that file to read (default: all of it)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0, the default: one for each core")
    options = parser.parse_args(arguments)
    if options.workers < 0:
        parser.error(f"expected --workers of 0 or more, received {options.workers}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("demo_corpus")
    try:
        from demo_corpus.build import build, summary
        from demo_corpus.errors import DemoError
        from demo_corpus.settings import load_params
    except ImportError as error:
        log.error("expected the package %s, found none. Install what the pipeline needs: make setup.", error.name)
        return 1
    started = time.monotonic()
    try:
        clips = build(options.out, load_params(options.params, options.section), options.workers)
    except DemoError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error("expected to write to %s, received: %s. Look for space and rights there.", options.out, error)
        return 74
    log.info("%s: %s, in %.0f s", options.out, summary(clips), time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
