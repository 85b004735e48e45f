"""The repository and its params, for the faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.pipeline.yaml12 import load_yaml12

ROOT = Path(__file__).resolve().parent.parent


def decode_params(**changes: Any) -> dict[str, Any]:
    """The section decode of params.yaml with some values changed."""
    values: dict[str, Any] = load_yaml12((ROOT / "params.yaml").read_text(encoding="utf-8"))["decode"]
    return {**values, **changes}
