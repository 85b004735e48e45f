"""The frame around every stage: the log, the params, the lock, and how it ends."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys

from stages.pipeline.backends import end_workers
from stages.pipeline.errors import PipelineError, StorageError
from stages.pipeline.lock import stage_lock
from stages.pipeline.params import load_params

log = logging.getLogger(__name__)


def stage_main(stage: str) -> int:
    """Run stages/`stage`.py's `run(params)`; its exit status. An error is one message."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr, force=True)
    logging.raiseExceptions = False  # a log that cannot be written, to a full disk or a closed pipe, stops no stage
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        params = load_params()
        # By its real name, not as __main__: the workers must be able to import what they are given.
        module = importlib.import_module(f"stages.{stage}")
        with stage_lock(stage):
            module.run(params)
    except PipelineError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error(
            "reading or writing failed: %s. Finished shards are kept; mend it and run `dvc repro` again",
            error,
        )
        return StorageError.exit_code
    finally:
        end_workers()
    return 0


def _stop(number: int, _frame: object) -> None:
    # No clean-up on purpose: the kernel takes the lock back and ends the workers, and the next run removes what they
    # left unfinished. Anything slower could hang on a worker that does not answer.
    os.write(2, b"stopped; finished shards are kept, `dvc repro` goes on from here\n")
    os._exit(128 + number)
