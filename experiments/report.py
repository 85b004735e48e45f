"""docs/claims.json -> the tables in docs/claims.md and docs/images/claims.png.

The interval of a difference between two cells holds two kinds of chance: which voices are in the test (bootstrapped
over voices; the same ones for both cells where they heard the same test clips) and which seeds were trained with (a
t-distribution with the standard deviation within cells, pooled over all of them: three seeds alone tell too little).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from experiments.grids import BASE, CELLS, CLAIMS, MARGIN, SEEDS, Claim
from stages.learning.plots import BLUE, ORANGE
from stages.pipeline.errors import StorageError
from stages.pipeline.files import write_atomically

RESULTS = Path("docs/claims.json")
PAGE = Path("docs/claims.md")
PICTURE = Path("docs/images/claims.png")
DRAWS, DRAWS_SEED = 20000, 1
BASE_NAME = "base: mel, log, 192x192, dense, ELU, by voice"
LEARNED = (
    0.5  # accuracy on the training clips; below it a cell needs more epochs, and its score says nothing of the claim
)
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Run:
    """One experiment. groups : voice -> (test clips that are right, test clips)."""

    cell: str
    seed: int
    chance: float
    train_accuracy: float
    validation_accuracy: float
    groups: Mapping[str, tuple[int, int]]

    @property
    def n_clips(self) -> int:
        return sum(clips for _, clips in self.groups.values())

    @property
    def accuracy(self) -> float:
        return sum(right for right, _ in self.groups.values()) / self.n_clips

    def values(self) -> dict[str, Any]:
        """As docs/claims.json holds it."""
        return asdict(self) | {"accuracy": round(self.accuracy, 4)}


@dataclass(frozen=True)
class Difference:
    """Of a cell's mean accuracy to the base's, with its 95 % interval."""

    mean: float
    low: float
    high: float


def read_runs(path: Path = RESULTS) -> dict[str, list[Run]]:
    """Cell -> its runs.

    Raises
    ------
    StorageError
        There is no such file, or it holds something else.
    """
    try:
        runs: dict[str, list[Run]] = defaultdict(list)
        for row in json.loads(path.read_text(encoding="utf-8")):
            del row["accuracy"]
            row["groups"] = {name: (right, clips) for name, (right, clips) in row["groups"].items()}
            runs[row["cell"]].append(Run(**row))
        return dict(runs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} holds no experiments ({error!r}); run `make experiments`") from None


def difference(cells: Mapping[str, Sequence[Run]], cell: str) -> Difference:
    """Of `cell` to the base."""
    of_voices = _bootstrap_over_voices(cells[cell], cells[BASE])
    deviation, freedom = seed_deviation(cells)
    spread = deviation * np.sqrt(1 / len(cells[cell]) + 1 / len(cells[BASE]))
    of_seeds = spread * np.random.default_rng(DRAWS_SEED).standard_t(max(1, freedom), DRAWS)
    low, high = np.quantile(of_voices + of_seeds, [0.025, 0.975])
    return Difference(_mean(cells[cell]) - _mean(cells[BASE]), float(low), float(high))


def seed_deviation(cells: Mapping[str, Sequence[Run]]) -> tuple[float, int]:
    """Standard deviation of accuracy from seed to seed, pooled over the cells, and its degrees of freedom."""
    squares = [(run.accuracy - _mean(runs)) ** 2 for runs in cells.values() for run in runs]
    freedom = len(squares) - len(cells)
    return (float(np.sqrt(sum(squares) / freedom)) if freedom else float("nan")), freedom


def _mean(runs: Sequence[Run]) -> float:
    return float(np.mean([run.accuracy for run in runs]))


def _bootstrap_over_voices(runs: Sequence[Run], base: Sequence[Run]) -> np.ndarray:
    """Differences of mean accuracy, (DRAWS,)."""
    rng = np.random.default_rng(DRAWS_SEED + 1)
    same_clips = _clips(runs) == _clips(base)
    drawn = _draw(rng, len(runs[0].groups))
    drawn_for_base = drawn if same_clips else _draw(rng, len(base[0].groups))
    found: np.ndarray = _accuracies(runs, drawn) - _accuracies(base, drawn_for_base)
    return found


def _clips(runs: Sequence[Run]) -> dict[str, int]:
    return {name: clips for name, (_, clips) in runs[0].groups.items()}


def _draw(rng: np.random.Generator, n_groups: int) -> np.ndarray:
    """How often each voice is drawn: (DRAWS, n_groups)."""
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), DRAWS)


def _accuracies(runs: Sequence[Run], drawn: np.ndarray) -> np.ndarray:
    names = list(_clips(runs))
    right = np.mean([[run.groups[name][0] for name in names] for run in runs], axis=0)
    found: np.ndarray = (drawn @ right) / (drawn @ np.array(list(_clips(runs).values())))
    return found


def verdict(claim: Claim, cells: Mapping[str, Sequence[Run]], cell: str) -> str:
    """What the interval says of the claim; nothing where the cell hasn't been run, or hasn't learned its own clips."""
    if cell not in cells or np.mean([run.train_accuracy for run in cells[cell]]) < LEARNED:
        return OPEN
    return what_holds(claim, difference(cells, cell))


def what_holds(claim: Claim, found: Difference) -> str:
    """What the interval says of the claim."""
    holds, fails = {
        "better": (found.high < 0, found.low > 0),
        "higher": (found.low > 0, found.high < 0),
        "as well": (found.high <= MARGIN, found.low > 0),
    }[claim.kind]  # both False where the interval is unknown, nan
    return HOLDS if holds else FAILS if fails else OPEN


def verdicts(cells: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: each claim in a line."""
    lines = []
    for claim in CLAIMS:
        found = {cell: verdict(claim, cells, cell) for cell in claim.cells}
        if len(set(found.values())) == 1:
            said = f"**{next(iter(found.values()))}**"
        else:
            said = ", ".join(f"**{found[cell]}** ({name})" for cell, name in claim.cells.items())
        lines.append(f"- {claim.text}: {said}\n")
    return "".join(lines)


def table(cells: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: a row for each comparison; what hasn't been run is said."""
    head = ("claim", "compared", "test accuracy", "each seed", "training", "difference, 95 % interval", "verdict")
    rows: list[Sequence[str]] = [head, ("---",) * len(head), ("", BASE_NAME, *_scores(cells[BASE]), "", "")]
    for claim in CLAIMS:
        text = claim.text
        for cell, name in claim.cells.items():
            if cell in cells:
                found = difference(cells, cell)
                interval = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
                rows.append((text, name, *_scores(cells[cell]), interval, f"**{verdict(claim, cells, cell)}**"))
            else:
                rows.append((text, name, "not run", "", "", "", f"**{OPEN}**"))
            text = ""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _scores(runs: Sequence[Run]) -> tuple[str, str, str]:
    each = ", ".join(f"{run.accuracy:.3f}" for run in runs)
    return f"{_mean(runs):.3f}", each, f"{np.mean([run.train_accuracy for run in runs]):.3f}"


def facts(cells: Mapping[str, Sequence[Run]]) -> str:
    base = cells[BASE][0]
    deviation, freedom = seed_deviation(cells)
    done, planned = [len(cells.get(cell, ())) for cell in CELLS], len(CELLS) * len(SEEDS)
    unfinished = (
        f"**Not finished**: {sum(done)} of {planned} trainings, {min(done)} to {max(done)} seeds a cell where "
        f"{len(SEEDS)} are planned. "
    )
    return (unfinished if sum(done) < planned else f"{planned} trainings, {len(SEEDS)} seeds a cell. ") + (
        f"Chance {base.chance:.3f}. Test: {base.n_clips} "
        f"clips of {len(base.groups)} voices, none of them in training; of the random split {_random(cells)}. "
        f"Standard deviation from seed to seed {deviation:.3f} ({freedom} degrees of freedom).\n"
    )


def _random(cells: Mapping[str, Sequence[Run]]) -> str:
    runs = cells.get("split-random")
    return f"{runs[0].n_clips} clips of {len(runs[0].groups)} voices" if runs else "nothing: not run"


def picture(cells: Mapping[str, Sequence[Run]], path: Path = PICTURE) -> None:
    """Left: accuracy, a ring for each seed and a dot for their mean. Right: difference to the base, 95 % interval."""
    named = [(BASE, BASE_NAME)] + [pair for claim in CLAIMS for pair in claim.cells.items() if pair[0] in cells]
    rows = np.arange(len(named))[::-1]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.2 + 0.36 * len(named)), sharey=True, layout="constrained", width_ratios=(3, 2)
    )
    for row, (cell, _) in zip(rows, named, strict=True):
        scores = [run.accuracy for run in cells[cell]]
        left.plot(scores, [row] * len(scores), "o", markerfacecolor="none", color=ORANGE, label="one seed")
        left.plot([_mean(cells[cell])], [row], "o", color=BLUE, label="mean of the seeds")
        if cell != BASE:
            found = difference(cells, cell)
            right.hlines(row, found.low, found.high, color=BLUE)
            right.plot([found.mean], [row], "o", color=BLUE)
    chance = cells[BASE][0].chance
    left.axvline(chance, color="grey", linestyle=":", label="chance")
    left.axvline(_mean(cells[BASE]), color="black", linestyle="--", linewidth=1, label="mean of the base")
    left.set(yticks=rows, yticklabels=[name for _, name in named], xlabel="test accuracy", xlim=(0, 1))
    right.axvline(0, color="black", linestyle="--", linewidth=1)
    right.axvspan(-MARGIN, MARGIN, color="grey", alpha=0.2, linewidth=0)
    right.set(xlabel=f"difference to the base, 95 % interval\n(grey: {MARGIN:.0%} either way)")
    handles = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def write_report(page: Path = PAGE) -> None:
    """The picture, and the tables between the marks `<!-- claims:NAME -->` and `<!-- /claims -->` of the page."""
    cells = read_runs()
    picture(cells)
    blocks = {"verdicts": verdicts(cells), "facts": facts(cells), "table": table(cells)}
    text = re.sub(
        r"(<!-- claims:(\w+) -->\n).*?(<!-- /claims -->)",
        lambda mark: mark[1] + blocks[mark[2]] + mark[3],
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    with write_atomically(page) as handle:
        handle.write(text)
