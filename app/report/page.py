"""The page: the template report.html, filled; learning curves are drawn here, the other pictures by the stages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from app.report.collect import Experiment, data_uri

BLUE, ORANGE = "#0072B2", "#E69F00"  # Okabe and Ito
RUNGS = {
    "chance": "chance",
    "majority": "always the commonest language",
    "mel_lda": "discriminant on the average sound",
    "article": "the 2017 article's network",
    "model": "the model",
}


def render(experiment: Experiment) -> str:
    """HTML, UTF-8. Names of files and languages come from outside: the template escapes them."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "bar": bar}
    pictures = dict(experiment.pictures)
    if experiment.curves:
        pictures["curves"] = data_uri(curves_picture(experiment.curves))
    if not experiment.scores.get("unknown"):
        pictures.pop("evaluate/unknown.png", None)  # it only says that no language was kept out
    ladder = experiment.scores.get("ladder", {})
    rungs = [(text, ladder[name]) for name, text in RUNGS.items() if name in ladder]
    return environment.get_template("report.html").render(e=experiment, pictures=pictures, rungs=rungs)


def number(value: Any) -> str:
    """As people read it: 0.9033, 3,000, null as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or not value else f"{value:g}"


def bar(share: float) -> str:
    """Width of a bar in percent."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def curves_picture(curves: dict[str, dict[str, list[float]]]) -> bytes:
    """PNG: loss and accuracy by epoch, training and validation."""
    figure, axes = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.2), layout="constrained", squeeze=False)
    for axis, (name, series) in zip(axes[0], sorted(curves.items(), reverse=True), strict=True):
        for split, colour, style in (("train", ORANGE, "--"), ("validation", BLUE, "-")):
            if split in series:
                epochs = range(1, len(series[split]) + 1)
                axis.plot(
                    epochs, series[split], style, color=colour, label=split, marker="." if len(epochs) < 3 else ""
                )
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(linewidth=0.3)
        axis.legend(frameon=False)
        if name == "accuracy":
            axis.set_ylim(0, 1.02)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()
