"""File names as they stand in tables: any name that a file system allows, in valid UTF-8, and back without loss.

A name may hold newlines, bytes that are no UTF-8, or begin with `=` (which a spreadsheet would run as a formula).
Those bytes are percent-escaped, as in a URL; a name of plain text stays as it is, but for `%` itself.
"""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote_to_bytes

_FORMULA = ("=", "+", "-", "@")


def escape_path(name: str) -> str:
    """File-system name (with surrogate escapes) -> text that is safe in a CSV cell and in a log line."""
    if name.isprintable() and "%" not in name and not name.startswith(_FORMULA):
        return name  # nearly all, and a corpus has millions
    out: list[str] = []
    for position, char in enumerate(name):
        printable = not 0xD800 <= ord(char) <= 0xDFFF and unicodedata.category(char)[0] != "C"
        if char == "%" or not printable or (position == 0 and char in _FORMULA):
            out.extend(f"%{byte:02X}" for byte in os.fsencode(char))
        else:
            out.append(char)
    return "".join(out)


def unescape_path(text: str) -> str:
    """The inverse of `escape_path`: the name to hand to the operating system."""
    return os.fsdecode(unquote_to_bytes(text))
