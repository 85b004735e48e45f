"""Uses a trained model: `python -m app.predict`, or `from app import Recognizer`."""

from app.recognizer import Recognition, Recognizer
from app.timeline import Segment

__all__ = ["Recognition", "Recognizer", "Segment"]
