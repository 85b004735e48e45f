"""Write docs/params.md: every key of params.yaml with its type, its value here and what it means.

    python docs/make_params.py

Types, ranges and descriptions come from stages/pipeline/params.py and its sections, values from params.yaml.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from annotated_types import Ge, Gt, Le, Lt  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

from stages.pipeline.params import Params  # noqa: E402
from stages.pipeline.yaml12 import load_yaml12  # noqa: E402

HEAD = """# Params

Every key of [params.yaml](../params.yaml): what it may be, what it is in this commit, and what it means.
Written by `python docs/make_params.py` from `stages/pipeline/params.py` and its sections. A key that is missing,
unknown or out of range ends a stage with status 2 and a line that names it.
Change one in the file, or for one run with `dvc exp run -S train.epochs=30`.
"""
_SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def document() -> str:
    """The whole page."""
    values = load_yaml12((ROOT / "params.yaml").read_text(encoding="utf-8"))
    lines = [HEAD]
    for name, field in Params.model_fields.items():
        kind = _section(field)
        if kind is None:
            lines += [*_table_head(), _row(name, field, values[name]), ""]
            continue
        lines += [f"## {name}", ""]
        if kind.__doc__ and kind.__doc__ != BaseModel.__doc__ and "__doc__" in vars(kind):
            lines += [" ".join(kind.__doc__.split()), ""]
        lines += [*_table_head(), *_rows(kind, values[name], ""), ""]
    return "\n".join(lines)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table_head() -> tuple[str, str]:
    return "| key | may be | here | what it means |", "|---|---|---|---|"


def _rows(kind: type[BaseModel], values: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        inner = _section(field)
        if inner is None:
            yield _row(prefix + name, field, values[name])
        else:
            yield from _rows(inner, values[name], f"{prefix}{name}.")


def _row(name: str, field: FieldInfo, value: Any) -> str:
    limits = [f"{sign} {getattr(limit, kind.__name__.lower()):g}" for limit in field.metadata
              for kind, sign in _SIGNS.items() if isinstance(limit, kind)]  # fmt: skip
    may_be = ", ".join([_type(field.annotation), *limits])
    return f"| `{name}` | {may_be} | `{_yaml(value)}` | {(field.description or '').replace('|', '/')} |"


def _type(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        parts = [_type(one) for one in inner if one is not Ellipsis]
        return f"list of {parts[0]}" if Ellipsis in inner else f"[{', '.join(parts)}]"
    if origin is dict:
        return "mapping of text to text"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(one) for one in inner)
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}[kind]


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, list):
        return f"[{', '.join(_yaml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: ...' for name in value)}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    (ROOT / "docs/params.md").write_text(document(), encoding="utf-8")
