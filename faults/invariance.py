"""The same corpus under other circumstances: workers, order of the files, locale, time zone, hash seed, user.

Must hold: one tree of hashes, over all shards and tables of the data stages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from faults.project import Project, mixed_corpus
from faults.result import Result, must

FULL = 12
STAGES = ("manifest", "decode", "resample", "logmel", "resize")
OUTS = ("data/decoded", "data/resampled", "data/logmel", "data/features", "metrics")
_NOBODY = 65534
# (what differs, workers, environment)
VARIANTS: list[tuple[str, int, dict[str, str]]] = [
    ("one worker", 1, {}),
    ("two workers", 2, {}),
    ("three workers", 3, {}),
    ("files made in the reverse order", 2, {}),
    ("the C locale", 2, {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ("a Turkish locale", 2, {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}),
    ("Kiribati's time", 2, {"TZ": "Pacific/Kiritimati"}),
    ("hash seed 0", 2, {"PYTHONHASHSEED": "0"}),
    ("hash seed 4242", 1, {"PYTHONHASHSEED": "4242"}),
    ("threads of the libraries", 1, {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}),
    ("a umask of 077", 2, {}),
    ("another user", 2, {}),
]


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """The first variant is what the others are compared with, so it always runs."""
    result = Result()
    corpus = mixed_corpus(workdir / "corpus", clips=12)
    expected = _tree(workdir / "first", corpus, *VARIANTS[0])
    for number in range(first, min(first + count, len(VARIANTS))):
        what = VARIANTS[number][0]
        if what == "another user" and os.getuid() != 0:
            result.skipped = "another user: only root can start a stage as somebody else"
            continue
        with result.attempt(number, what):
            found = _tree(workdir / f"variant{number}", corpus, *VARIANTS[number])
            other = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            must(not other, f"{len(other)} files differ, such as {other[:3]}")
    return result


def _tree(folder: Path, corpus: Path, what: str, workers: int, environment: dict[str, str]) -> dict[str, str]:
    dataset = corpus
    if "reverse" in what:
        dataset = folder.with_name(f"{folder.name}-corpus")
        for path in sorted(corpus.rglob("*.*"), reverse=True):
            (dataset / path.relative_to(corpus)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, dataset / path.relative_to(corpus))
    project = Project(folder, dataset)
    project.set(manifest={"clips_per_shard": 4}, execution={"workers": workers})
    before = []
    if "umask" in what:
        before = ["bash", "-c", 'umask 077; exec "$@"', "--"]
    if what == "another user":
        # it may read Python and the packages wherever they lie, and write in its own folder only
        read = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
        before = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *read]
        environment = {**environment, "HOME": str(folder), "TMPDIR": str(folder)}
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _NOBODY, _NOBODY)
    for stage in STAGES:
        project.run(
            "env", *(f"{key}={value}" for key, value in environment.items()), *before, "python", "-m", f"stages.{stage}"
        )
    return project.hashes(*OUTS) | {"data/manifest.csv": project.hashes("data")["data/manifest.csv"]}
