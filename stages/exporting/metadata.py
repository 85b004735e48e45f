"""What an exported file says about itself: plain data, the same in every format.

ONNX has a place for it (`metadata_props`, a value a key). LiteRT files carry it as `metadata.json` in a zip archive at
their end, where LiteRT's own tools keep labels (runtimes don't read past the model, `unzip` does); SavedModels in
`assets.extra/metadata.json`, TensorFlow's place for what others add.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import babel
import langcodes

from stages.learning.front_end import window_input

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

FORMAT = 1  # of the metadata and the inputs; app/onnx_model.py reads this one
METADATA_NAME = "metadata.json"


def metadata_of(settings: ModelSettings, more: dict[str, Any]) -> dict[str, Any]:
    """docs/export.md lists the keys.

    more : what the settings don't know: hashes of the files it was made from, the licence of the data
    """
    return (
        settings.model_dump(mode="json", exclude={"train", "format"})
        | {
            "format": FORMAT,
            "input": dataclasses.asdict(window_input(settings.features)),
            "iso639_3": {label: iso639_3(label) for label in settings.languages},
        }
        | more
    )


def iso639_3(label: str) -> str | None:
    """The code of three letters, "spa" of "es", "es-MX" or "es_419"; None for a label that is no language's tag."""
    try:
        code = str(langcodes.Language.get(label).to_alpha3())
    except (LookupError, ValueError):
        return None
    return None if code == "und" else code


def language_name(label: str) -> str | None:
    """The language's name in English, as CLDR has it."""
    if iso639_3(label) is None:
        return None
    return babel.Locale("en").languages.get(langcodes.Language.get(label).language)
