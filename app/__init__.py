"""Uses a trained model: `python -m app.predict`, or `from app import Recognizer`."""

from app.recognizer import Recognition, Recognizer

__all__ = ["Recognition", "Recognizer"]
