"""Damage to real files that knows what they are made of: lines of YAML, cells of CSV, bytes."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

DRAWN_SHARE = 0.25  # of the inputs are drawn by hypothesis, the others are mutations of real files

_FIRST, _LEVEL = "a0: &a0 {x: [1]}\n", "a{i}: &a{i} {{x: [{many}], <<: [{many}]}}\n"
LAUGHS = _FIRST + "".join(_LEVEL.format(i=i, many=", ".join([f"*a{i - 1}"] * 9)) for i in range(1, 9))
YAML_PIECES = (
    *("", "~", "null", "no", "True", ".nan", "-.inf", ".inf", "1e999", "-0", "0x" + "f" * 5000, "9" * 5000, "1_0"),
    *("0o9", "1e-400", "12:30:00", "2026-02-30", "=1+1", "''", '"', "'", "[", "]", "{", "}", "- ", "? ", ": ", ","),
    *("[" * 300, "{a: " * 400, "- " * 300, "[" * 600, "&a [*a]", "&a {a: *a}", "*a", "*b", "&a ", "<<: *a", "<<: {}"),
    *("!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary x", "!!null x", "!!set {a}", "!!omap [a: 1]"),
    *("!!python/object/apply:os.system [id]", "!x y", "!<tag:x> y", "!!str 1", "!!seq {}", "!!map []", "%YAML 9.9\n"),
    *(
        "---\n",
        "...\n",
        "%TAG ! x\n",
        "|\n  x",
        ">9\n x",
        '"\\ud800"',
        '"\\U00110000"',
        '"\\x00"',
        "\t",
        "\0",
        "\ufeff",
    ),
    *("\r\n", "\r", "\u2028", "\x85", "\x1b", "#", "@", "`", "a" * 2000, LAUGHS),
)
CELLS = (
    *(
        "",
        " ",
        "=1+1",
        "@x",
        "-1",
        "a,b",
        'a"b',
        '"',
        "a\nb",
        "a\r\nb",
        "\r",
        "\0",
        "%00",
        "%ZZ",
        "%",
        "../x",
        "..",
        ".",
    ),
    *(
        "/",
        "/etc/passwd",
        "é\u0301",
        "\ufeff",
        "\t",
        "\x1a",
        "\u2028",
        "train",
        "dev",
        "NaN",
        "9" * 30,
        "9" * 5000,
        "1+2",
    ),
    *("0+0", "-1+5", "1+5>9", "x" * 300, "x/" * 3000, "'", "\\", "clips", "a.mp3", "[]", "None", "s0", "é" * 5000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**64, -(2**64), 10**400, 0.0, -0.0, 1e308, 5e-324, float("nan")),
    *(float("inf"), -float("inf"), "", "x", "\ud800", "\0", "a" * 1000, "(" * 300, "a{9999999999}", "[", "(a*)*b"),
    *([], {}, [[]], [{}], {"": None}, {1: 2}, [None], [0.1, 0.1], [1, "a"], b"x", "none", "auto", "1", "tcp://x:1"),
)


def drawn(strategy: st.SearchStrategy[Any]) -> Callable[[random.Random], Any]:
    """A function that turns random bytes into a value of that strategy, None where they do not suffice."""
    found: list[Any] = []

    @settings(database=None, deadline=None)
    @given(strategy)
    def take(value: Any) -> None:
        found[:] = [value]

    from_bytes = take.hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def draw(rng: random.Random) -> Any:
        return found[0] if from_bytes(rng.randbytes(2048)) is not None else None

    return draw


@cache
def any_value() -> st.SearchStrategy[Any]:
    """Plain data as YAML and JSON give it, and a few that they do not."""
    leaf = st.one_of(
        *(
            st.sampled_from(VALUES),
            st.integers(),
            st.floats(),
            st.text(max_size=12),
            st.booleans(),
            st.binary(max_size=4),
        )
    )
    key = st.one_of(st.text(max_size=6), st.sampled_from(["seed", "path", "epochs"]), st.integers(0, 3))
    return st.recursive(leaf, lambda c: st.lists(c, max_size=3) | st.dictionaries(key, c, max_size=3), max_leaves=6)


def similar(value: Any, rng: random.Random) -> Any:
    """Another value of the same type: what passes the first check may fail a later one."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return rng.choice((0, 1, 2, -value, value + 1, value - 1, 10 * value, value**4))
    if isinstance(value, float):
        return rng.choice((0.0, 1.0, -value, value / 3, 3 * value, 0.999, 1e-30, 1e30))
    if isinstance(value, str):
        return rng.choice((value[1:], value + "x", "random", "power", "log", "dask", "tls://h:1", "^(", "none", "data"))
    if isinstance(value, list):
        return rng.choice(([], value[1:], value + value, [similar(one, rng) for one in value], value * 30))
    return {}


def changed_values(values: dict[str, Any], rng: random.Random, piece: Callable[[], Any]) -> dict[str, Any]:
    """A copy of nested values with up to four keys changed, replaced, removed, renamed or wrapped."""
    result: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place: dict[Any, Any] = result
        nested = [value for value in result.values() if isinstance(value, dict) and value]
        if nested and rng.random() < 0.85:
            place = rng.choice(nested)
        if not place:
            continue
        key, kind = rng.choice(sorted(place, key=str)), rng.randrange(12)
        if kind < 4 and not isinstance(place[key], dict):
            place[key] = similar(place[key], rng)
        elif kind < 8:
            place[key] = piece()
        elif kind == 8:
            del place[key]
        elif kind == 9:
            place[rng.choice(("", "x", 1, None, "\ud800", 2**70, "seed", (1, 2), b"k"))] = piece()
        elif kind == 10:
            place[key] = [place[key]] * rng.choice((1, 2, 40))
        else:
            place[key] = {key: place[key]}
    return result


def changed_yaml(text: str, rng: random.Random) -> bytes:
    """Lines and scalars replaced, then, now and then, bytes."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 3))):
        i, kind = rng.randrange(len(lines)), rng.randrange(8)
        piece = rng.choice(YAML_PIECES)
        if kind < 3:
            key, colon, _ = lines[i].partition(":")
            lines[i] = f"{key}{colon or ':'} {piece}\n"
        elif kind == 3:
            lines[i] = piece + lines[i]
        elif kind == 4:
            at = rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + piece + lines[i][at:]
        elif kind == 5:
            lines.insert(rng.randrange(len(lines) + 1), lines[i])
        elif kind == 6:
            lines[i] = " " * rng.randrange(5) + lines[i].lstrip()
        elif len(lines) > 1:
            del lines[i]
    return damaged(encoded("".join(lines), rng), rng)


def changed_table(rows: list[list[str]], delimiter: str, rng: random.Random) -> bytes:
    """Cells, columns and rows replaced, then, now and then, bytes."""
    rows = [list(row) for row in rows]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, kind = rng.choice(rows[1:] if len(rows) > 1 and rng.random() < 0.9 else rows), rng.randrange(12)
        column = rng.randrange(max(1, len(row)))
        if kind < 6 and row:
            row[column] = rng.choice(CELLS)
        elif kind == 6 and row:
            row[column] += rng.choice(CELLS)
        elif kind == 7:
            rows.insert(rng.randrange(len(rows) + 1), list(row))
        elif kind == 8:
            for other in rows[rng.randrange(2) :]:  # a column twice, or gone, with its name or without
                other[column : column + 1] = other[column : column + 1] * rng.choice((0, 2))
        elif kind == 9:
            row += [rng.choice(CELLS)] * rng.choice((1, 3))
        elif kind == 10:
            del row[column:]
        else:
            rows = rng.sample(rows, len(rows))
    if rng.random() < 0.002:
        rng.choice(rows).append("x" * 140_000)  # above csv's limit for one cell
    return damaged(encoded(table_text(rows, delimiter), rng), rng)


def table_text(rows: list[list[str]], delimiter: str) -> str:
    """CSV with quotes where they are needed; TSV without any."""
    if delimiter == "\t":
        return "".join("\t".join(row) + "\n" for row in rows)
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def encoded(text: str, rng: random.Random) -> bytes:
    """UTF-8, seldom another encoding, byte-order mark or end of line."""
    kind = rng.randrange(80)
    if kind == 0:
        return text.encode("utf-16", "surrogatepass")
    if kind == 1:
        return text.encode("latin-1", "replace")
    if kind == 2:
        text = "\ufeff" + text
    elif kind == 3:
        text = text.replace("\n", "\r\n")
    elif kind == 4:
        text = text.replace("\n", "\r")
    return text.encode("utf-8", "surrogatepass")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One time in three: bits flipped, cut, zeroed, copied, inserted."""
    return broken(content, rng) if content and rng.random() < 1 / 3 else content


def broken(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Bits flipped, cut, overwritten, copied within, something inserted, or the rest of another file put behind."""
    out, kind = bytearray(content), rng.randrange(6)
    i, j = rng.randrange(len(out)), rng.randrange(len(out))
    length = rng.choice((1, 2, 4, 8, 32, 100, 512))
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del out[i:]
    elif kind == 2:
        out[i : i + length] = rng.choice((b"\0", b"\xff", b'"', b"\n")) * min(length, len(out) - i)
    elif kind == 3:
        out[i : i + length] = out[j : j + length]
    elif kind == 4:
        out[i:i] = rng.randbytes(length)
    else:
        out[i:] = (other or content)[rng.randrange(len(other or content)) :]
    return bytes(out)
