"""What the page says when something is wrong: one calm sentence, and what to do."""

from __future__ import annotations

_WORDS = {
    "empty_file": ("The file is empty.", "Choose another one."),
    "not_audio": ("This file holds no sound that can be read.", "Choose a recording, such as an MP3, WAV or OGG file."),
    "no_audio_stream": ("This file holds no sound, only pictures or data.", "Choose one with an audio track."),
    "undecodable": (
        "This file cannot be decoded.",
        "It may be damaged or of a rare format; try to convert it to WAV or MP3.",
    ),
    "unreadable": ("This file could not be read.", "Try it again, or choose another one."),
    "too_short": ("The recording is too short.", "A few seconds of speech are needed; ten are better."),
    "too_long": ("The recording is too long.", "Cut it into pieces, and drop one after another."),
    "silent": ("The recording is silent.", "If you recorded it just now, check which microphone is chosen."),
    "not_finite": ("The recording holds samples that are no numbers.", "Save it again from the program it comes from."),
    "no_speech": ("No speech was found in this recording.", "Choose one in which somebody speaks."),
    "timeout": ("This recording takes too long to work on.", "Try a shorter part of it."),
    "crashed": ("This file stopped the decoder.", "It is probably damaged; choose another one."),
    "too_large": ("This recording is too large.", "Cut it, or save it as MP3."),
    "too_slow": ("The recording did not arrive in time.", "Try it again, or choose a smaller one."),
    "no_space": ("There is no room for this recording on the server's disk.", "Free some space, then try again."),
    "busy": ("Too many recordings are waiting.", "Try again in a moment."),
    "ending": ("The server was ended.", "Start it again with `make serve`, then load this page again."),
    "unknown_language": ("The model does not know one of these languages.", "Load the page again."),
    "internal": ("Something went wrong here.", "The server's terminal says more."),
}
_STATUS = {
    "timeout": 503,
    "crashed": 422,
    "too_large": 413,
    "too_slow": 408,
    "no_space": 507,
    "busy": 503,
    "ending": 503,
    "unknown_language": 400,
    "internal": 500,
}


def words_for(reason: str) -> tuple[str, str]:
    """(what is wrong, what to do) for a reason code of `RejectedClip`, of a worker or of the server."""
    return _WORDS.get(reason, ("This recording cannot be used.", "Choose another one."))


def status_for(reason: str) -> int:
    """Its HTTP status: 422 where the recording itself is at fault."""
    return _STATUS.get(reason, 422)
