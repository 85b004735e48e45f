"""Fill README.md's results from docs/results/*.json, which are records of real runs.

    python docs/fill_results.py --record demo   # the run that lies in metrics/ becomes docs/results/demo.json
    python docs/fill_results.py                 # write the tables between the marks in README.md

`<!-- results:demo -->` takes demo.json and all demo-*.json; `<!-- results:benchmark -->` takes metrics/benchmark.json.
docs/scale.md's plan is filled too (docs/plan_scale.py).
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
from pathlib import Path
from typing import Any

README = Path("README.md")
RESULTS = Path("docs/results")
BENCHMARK = Path("metrics/benchmark.json")
_LADDER = (("chance", "chance"), ("mel_lda", "LDA on mel"), ("cnn5", "`cnn5`"), ("whisper_base", "Whisper base"))
_BLOCK = re.compile(r"(<!-- results:([a-z0-9-]+) -->\n)(.*?)(<!-- /results -->)", re.DOTALL)
_HEAD = (
    "| run | split | test accuracy | 95 % interval | chance | macro-F1 | test clips | groups |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
_METRICS = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "n_clips", "n_groups", "split")


def record(name: str) -> None:
    """Keep the numbers of the run that lies in metrics/ and models/."""
    metrics = json.loads(Path("metrics/evaluate/metrics.json").read_text(encoding="utf-8"))
    model = json.loads(Path("models/model/model.json").read_text(encoding="utf-8"))
    values = {
        "architecture": model["architecture"],
        "epochs": model["train"]["epochs"],
        "languages": model["languages"],
        "metrics": {key: metrics[key] for key in _METRICS},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def benchmark_table(path: Path = BENCHMARK) -> str:
    """Markdown: a row for each test set of the accuracy benchmark."""
    if not path.is_file():
        return "`make benchmark-accuracy` has not been run at full size yet.\n"
    values = json.loads(path.read_text(encoding="utf-8"))
    head = ("test set", "accuracy", "95 % interval", "clips, groups", *(text for _, text in _LADDER))
    rows = [head, ("---",) * len(head)]
    for name, test in values.items():
        if isinstance(test, dict) and "accuracy" in test:
            others = ("" if test[key] is None else f"{test[key]:.3f}" for key, _ in _LADDER)
            interval = f"{test['low']:.3f} to {test['high']:.3f}"
            rows.append(
                (name, f"{test['accuracy']:.3f}", interval, f"{test['n_clips']:,}, {test['n_groups']}", *others)
            )
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    clips, epochs = values["train_clips_per_language"], values["epochs"]
    others = values.get("trained_on_other_clips_per_language", {})
    others_text = "".join(f"; {dict(_LADDER)[name]}: {n:,} clips a language" for name, n in others.items())
    kept = values.get("of_earlier_commits", {})
    others_text += "".join(f"; {dict(_LADDER)[name]}: as measured at {commit}" for name, commit in kept.items())
    return f"{text}\n<sub>{clips:,} training clips a language, {epochs} epochs{others_text}</sub>\n"


def table(name: str, results: Path) -> str:
    """Markdown: a row for each record of this name."""
    if name == "benchmark":
        return benchmark_table()
    paths = [path for path in sorted(results.glob("*.json")) if path.stem == name or path.stem.startswith(f"{name}-")]
    if not paths:
        return "No run is recorded here.\n"
    return _HEAD + "".join(_row(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in paths)


def _row(name: str, values: dict[str, Any]) -> str:
    metrics, languages = values["metrics"], len(values["languages"])
    cells = (
        f"{name}: {languages} languages, `{values['architecture']}`, {values['epochs']} epochs",
        metrics["split"],
        f"{metrics['accuracy']:.3f}",
        f"{metrics['accuracy_low']:.3f} to {metrics['accuracy_high']:.3f}",
        f"{1 / languages:.3f}",
        f"{metrics['macro_f1']:.3f}",
        f"{metrics['n_clips']:,}",
        f"{metrics['n_groups']:,}",
    )
    return f"| {' | '.join(cells)} |\n"


def filled(readme: str, results: Path = RESULTS) -> str:
    """The README's text with every block of results as the records have it."""
    return _BLOCK.sub(lambda block: block[1] + table(block[2], results) + block[4], readme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", metavar="NAME", help="first keep the run in metrics/ as docs/results/NAME.json")
    options = parser.parse_args()
    if options.record:
        record(options.record)
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
    runpy.run_path("docs/plan_scale.py")["write"]()


if __name__ == "__main__":
    main()
