"""Write all results of the experiment in the working folder as one HTML file that needs no other and no network.

    python -m app.report [--out report.html] [--base COMMIT]

Its scores are set against those of --base, by default the last commit with other scores or params. Status: 0 written,
1 nothing was run yet, 2 no such commit, 74 the file cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app.report.collect import collect
from app.report.page import render
from stages.pipeline.errors import PipelineError
from stages.pipeline.files import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="file to write (report.html)")
    parser.add_argument("--base", default="", metavar="COMMIT", help="commit, branch or experiment to compare with")
    options = parser.parse_args(arguments)
    try:
        page = render(collect(options.base))
        with write_atomically(options.out) as handle:
            handle.write(page)
    except PipelineError as error:
        print(f"report: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {len(page.encode()) / 1e6:.1f} MB; open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
