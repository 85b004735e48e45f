"""What predict writes: lines for people, JSON lines, CSV, RTTM and WebVTT.

RTTM: NIST, Rich Transcription Time Marked, a SPEAKER line for each segment, the language in the speaker's place.
WebVTT: W3C, a cue for each segment, so that a player shows the language while the recording plays.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from app.recognizer import Recognition
from stages.pipeline.errors import RejectedClip
from stages.pipeline.paths import escape_path

FORMATS = ("text", "json", "csv", "rttm", "webvtt")
CSV_HEAD = "path,start,end,language,probability\n"
_TOP = 3


def text(name: str, found: Recognition, top: int | None, timeline: bool) -> str:
    """A line: path, `unknown` or `no_speech` where that is the answer, languages; with `timeline` a line a segment."""
    lines = [f"{escape_path(name)}  {_answer(found, top)}"]
    if timeline:
        lines += [
            f"  {_clock(one.start)} - {_clock(one.end)}  {one.language} {one.probability:.3f}" for one in found.segments
        ]
    return "\n".join(lines) + "\n"


def live(at: float, found: Recognition, top: int | None) -> str:
    """A line for live sound: when, `unknown` or `no_speech` where that is the answer, languages."""
    return f"{_clock(at)}  {_answer(found, top)}\n"


def json_line(name: str, found: Recognition, top: int | None, at: float | None = None) -> str:
    """One object; of live sound with the seconds `at` which it was said."""
    when = {} if at is None else {"at": round(at, 2)}
    return json.dumps(as_dict(name, found, top) | when) + "\n"


def as_dict(name: str, found: Recognition, top: int | None = None) -> dict[str, Any]:
    """The object that `json_line` writes."""
    return {
        "path": escape_path(name),
        "language": found.language,
        "probability": round(found.probability, 6),
        "ranking": [[language, round(p, 6)] for language, p in found.ranking[:top]],
        "segments": [
            {"start": round(one.start, 2), "end": round(one.end, 2), "language": one.language,
             "probability": round(one.probability, 4)}
            for one in found.segments
        ],
        "windows": found.windows,
        "seconds": round(found.seconds, 3),
        "speech_seconds": round(found.speech_seconds, 3),
    }  # fmt: skip


def json_fault(name: str, fault: RejectedClip) -> str:
    """The object of a file that could not be used."""
    return json.dumps({"path": escape_path(name), "error": {"reason": fault.reason, "detail": fault.detail}}) + "\n"


def csv_lines(name: str, found: Recognition) -> str:
    """A row for each segment; escaped names hold nothing that a spreadsheet would run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for one in found.segments:
        writer.writerow(
            (
                escape_path(name),
                f"{one.start:.2f}",
                f"{one.end:.2f}",
                escape_path(one.language),
                f"{one.probability:.4f}",
            )
        )
    return out.getvalue()


def rttm(name: str, found: Recognition) -> str:
    """A line for each segment; white space in a name becomes `_`, as the format has fields between spaces."""
    file = _field(name)
    lines = []
    for one in found.segments:
        times = f"{one.start:.2f} {one.end - one.start:.2f}"
        lines.append(f"SPEAKER {file} 1 {times} <NA> <NA> {_field(one.language)} {one.probability:.4f} <NA>\n")
    return "".join(lines)


def webvtt(name: str, found: Recognition) -> str:
    """A whole file: of one recording."""
    note = escape_path(name).replace("-->", "-- >")
    cues = [
        f"\n{_vtt_clock(one.start)} --> {_vtt_clock(one.end)}\n{_vtt_text(one.language)} {one.probability:.2f}\n"
        for one in found.segments
    ]
    return "".join([f"WEBVTT\n\nNOTE {note}\n", *cues])


def _answer(found: Recognition, top: int | None) -> str:
    ranking = [f"{language} {p:.3f}" for language, p in found.ranking[: top or _TOP]]
    plain = bool(found.ranking) and found.language == found.ranking[0][0]
    return "  ".join([*([] if plain else [found.language]), *ranking])


def _field(name: str) -> str:
    return re.sub(r"\s", "_", escape_path(name))


def _clock(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _vtt_clock(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    return (
        f"{thousandths // 3_600_000:02d}:{thousandths // 60_000 % 60:02d}:{thousandths // 1000 % 60:02d}"
        f".{thousandths % 1000:03d}"
    )


def _vtt_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
