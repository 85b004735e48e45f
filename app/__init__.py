"""Uses a trained model: `python -m app.predict`, or `from app.recognizer import Recognizer`."""
