"""YAML as DVC reads it: PyYAML with the rules of YAML 1.2's core schema.

PyYAML follows YAML 1.1, in which `no` is False (Norwegian disappears from a list of languages) and `1e-3` is a
string. DVC reads params.yaml by YAML 1.2; were the stages to read it otherwise, DVC would track other values than
the ones that are used. https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
# A few lines of `<<` that name each other's mappings would make millions of keys.
_MOST_MERGED, _MOST_KEYS = 100, 10_000


class Yaml12Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars; a key that stands twice in a mapping is an error."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        named = [value for key, value in node.value if key.tag == _MERGE]
        merged = sum(len(value.value) if isinstance(value, yaml.SequenceNode) else 1 for value in named)
        if merged <= _MOST_MERGED:
            super().flatten_mapping(node)  # type: ignore[no-untyped-call]
        if merged > _MOST_MERGED or len(node.value) > _MOST_KEYS:
            raise yaml.constructor.ConstructorError(
                None, None, f"<< merges more than {_MOST_MERGED} mappings or {_MOST_KEYS} keys", node.start_mark
            )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, str | int | float | bool | None) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            if isinstance(key, str | int | float | bool | None):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _int(loader: Yaml12Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value).replace("_", "")
    if text.startswith("0o"):
        return int(text[2:], 8)
    if text.startswith("0x"):
        return int(text[2:], 16)
    return int(text, 10)  # a leading zero is decimal in YAML 1.2, octal in 1.1


Yaml12Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
_TAG = "tag:yaml.org,2002:"
_SCALARS: list[tuple[str, str, str]] = [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
]
for _name, _pattern, _first in _SCALARS:
    Yaml12Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
        _TAG + _name, re.compile(rf"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
    )
Yaml12Loader.add_constructor(_TAG + "int", _int)


def load_yaml12(text: str) -> Any:
    """Parse one YAML 1.2 document.

    Raises
    ------
    yaml.YAMLError
        Where the text is no YAML or a key stands twice; mostly with line and column.
    """
    try:
        return yaml.load(text, Loader=Yaml12Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's own way with `!!int x`, `!!bool x`, `!!timestamp x`, "\U00110000" and numbers of 5,000 digits
        raise yaml.YAMLError(f"a value is not what its tag or its escape says: {error}") from None
