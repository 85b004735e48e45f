"""The account that every data stage gives: rows = kept + rejected, and why."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.pipeline.errors import PipelineError, TooManyRejectedError
from stages.pipeline.files import write_csv, write_json
from stages.pipeline.shards import Rejection

log = logging.getLogger(__name__)


def account(stage: str, rows: int, kept: int, seconds: float, rejected: Sequence[Rejection], limit: float) -> None:
    """Write metrics/<stage>/summary.json and quarantine.csv, print the numbers, and judge them.

    seconds : of sound that was kept; 0 where it isn't known or known already.
    limit : largest share of `rows` that may be rejected.

    Raises
    ------
    PipelineError
        rows != kept + rejected: something was lost, which is a fault of ours.
    TooManyRejectedError
        More than `limit` was rejected, or nothing was kept.
    """
    folder = Path("metrics") / stage
    reasons = Counter(rejection.reason for rejection in rejected)
    write_csv(folder / "quarantine.csv", ("id", "path", "reason", "detail"), (vars(entry) for entry in rejected))
    summary: dict[str, object] = {"rows": rows, "kept": kept, "rejected": len(rejected)}
    if seconds:
        summary["hours"] = round(seconds / 3600, 3)
    write_json(folder / "summary.json", summary | {"reasons": dict(reasons)})
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    log.info("%d rows = %d kept + %d rejected%s", rows, kept, len(rejected), f" ({told})" if told else "")
    if rows != kept + len(rejected):
        raise PipelineError(f"{stage}: {rows} rows went in, {kept} + {len(rejected)} came out; please report this bug")
    if not kept or len(rejected) > limit * rows:
        raise TooManyRejectedError(
            f"{len(rejected)} of {rows} recordings were rejected ({told or 'there were none'}); at most "
            f"{limit:.0%} may be. Look into {folder / 'quarantine.csv'}; mend or remove those files, or raise "
            f"{stage}.max_reject_fraction in params.yaml"
        )
