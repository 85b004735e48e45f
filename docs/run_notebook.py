"""Run docs/one_clip.ipynb from its first cell to its last and keep what it shows; needs no Jupyter.

    python docs/run_notebook.py [--check]

From the repository's root, after `make repro`. With --check nothing is written. Status 1 where a cell fails.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

sys.path.insert(0, "")
NOTEBOOK = Path("docs/one_clip.ipynb")
_DPI, _COLOURS = 70, 128  # so that Git carries little


def run(cells: list[dict[str, Any]]) -> None:
    """Fill the code cells' outputs: what they print, and their figures.

    Raises
    ------
    Exception
        Whatever a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102 - our own notebook
        cell["execution_count"] = number
        cell["outputs"] = [_text(printed.getvalue())] if printed.getvalue() else []
        for figure in map(plt.figure, plt.get_fignums()):
            cell["outputs"].append(_picture(figure))
        plt.close("all")


def _text(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def _picture(figure: Any) -> dict[str, Any]:
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(out, "png", optimize=True)
    png = base64.b64encode(out.getvalue()).decode("ascii")
    return {"output_type": "display_data", "data": {"image/png": png}, "metadata": {}}


def main() -> int:
    """Run it; returns the exit status."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    try:
        run(notebook["cells"])
    except Exception:
        traceback.print_exc()
        return 1
    if "--check" not in sys.argv[1:]:
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
