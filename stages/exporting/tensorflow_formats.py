"""SavedModel and LiteRT: the same graph as the ONNX file's, with the weights as constants in it.

Input and output have the names and shapes that the ONNX file has; their signature is `serving_default`.
The same model gives the same bytes in every process.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from stages.exporting.metadata import METADATA_NAME
from stages.learning.front_end import with_front_end
from stages.learning.onnx_graph import OUTPUT
from stages.learning.runtime import quiet_stderr

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

logging.getLogger("absl").setLevel(logging.ERROR)  # the converter counts its steps


def write_saved_model(folder: Path, network: Any, settings: ModelSettings, metadata: dict[str, Any]) -> None:
    """For TensorFlow and TensorFlow Serving; it holds no code of ours and no variables.

    network : in float32, with the trained weights

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    model = with_front_end(network, settings.features, settings.temperature)
    specs = [tf.TensorSpec(value.shape, value.dtype, name=value.name) for value in model.inputs]
    function = tf.function(lambda samples, lengths: model([samples, lengths], training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(*specs))

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator]
    def recognise(samples: Any, lengths: Any) -> dict[str, Any]:
        return {OUTPUT: frozen(samples, lengths)[0]}

    module = tf.Module()
    module.recognise = recognise
    try:
        with quiet_stderr():
            tf.saved_model.save(module, str(folder), signatures=recognise)
    except tf.errors.OpError as error:  # a full disk is one of TensorFlow's own errors
        raise OSError(f"{folder.name}: {str(error)[:300]}") from error
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # a random number in it; nothing needs the file
    extra = folder / "assets.extra"
    extra.mkdir()
    (extra / METADATA_NAME).write_text(as_text(metadata), encoding="utf-8")


def to_litert(saved_model: Path) -> bytes:
    """A .tflite file's bytes, of operations that every LiteRT has built in."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    with quiet_stderr():
        return bytes(converter.convert())


def with_metadata(litert: bytes, metadata: dict[str, Any]) -> bytes:
    """The same with an archive behind it that holds the metadata."""
    file = io.BytesIO(litert)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(METADATA_NAME), as_text(metadata))  # its date is 1980, always
    return file.getvalue()


def as_text(metadata: dict[str, Any]) -> str:
    return json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
