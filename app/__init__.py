"""Uses a trained model: `python -m app.predict`, or `from app import Recognizer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.recognizer import Recognition, Recognizer
    from app.timeline import Segment

__all__ = ["Recognition", "Recognizer", "Segment"]


def __getattr__(name: str) -> Any:
    # on first use: `python -m app.doctor` must start where a package is missing
    if name in __all__:
        from app import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module 'app' has no attribute {name!r}")
