"""A trained model as one ONNX file that takes sound and needs nothing of this repository.

Inputs and output are described in the file itself (`doc_string` of the model and of each input), what the model is in
its `metadata_props`, values as JSON: format, languages (in the order of the output), input (`WindowInput`), features,
temperature, unknown_threshold, calibration, split_label, n_clips, n_groups, architecture, versions,
weights_sha256 and settings_sha256 (of the files that it was made from).

The same model gives the same bytes in every process: names and order are made so, and ONNX files hold no dates. (A
second conversion in one process may order the nodes otherwise: Keras numbers what it names.)
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

import onnx
import tensorflow as tf
import tf2onnx

from stages.learning.front_end import window_input, with_front_end

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

logging.getLogger("tf2onnx").setLevel(logging.WARNING)  # it counts each kind of operation

FORMAT = 1  # of the metadata and the inputs; app/onnx_model.py reads this one
OPSET = 18
OUTPUT = "probabilities"


def to_onnx(network: Any, settings: ModelSettings, sources: dict[str, str]) -> bytes:
    """The file's bytes.

    network : in float32, with the trained weights; sources : hashes of the files that it comes from, for the
        metadata
    """
    model = with_front_end(network, settings.features, settings.temperature)
    samples, lengths = (tf.TensorSpec(value.shape, value.dtype, name=value.name) for value in model.inputs)

    function = tf.function(lambda samples, lengths: model([samples, lengths], training=False))
    graph, _ = tf2onnx.convert.from_function(function, (samples, lengths), opset=OPSET)
    _name_plainly(graph.graph)
    _describe(graph, settings, sources)
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def _name_plainly(graph: onnx.GraphProto) -> None:
    """Number all inner names by their first use, and sort the constants.

    Names and the constants' order that come out of the conversion differ from run to run.
    """
    names = {value.name: value.name.partition(":")[0] for value in graph.input}
    names |= {graph.output[0].name: OUTPUT, "": ""}  # an input that is left out has the empty name
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}{number}"
        node.doc_string = ""
        for name in node.input:
            if name in constants:
                names.setdefault(name, f"constant{len(names):04d}")
        for name in node.output:
            names.setdefault(name, f"value{len(names):04d}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for name, tensor in constants.items():
        tensor.name = names[name]
    ordered = sorted(graph.initializer, key=lambda tensor: tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "windows"
    del graph.value_info[:]
    graph.name = "spoken_language_recogniser"


def _describe(model: onnx.ModelProto, settings: ModelSettings, sources: dict[str, str]) -> None:
    window = window_input(settings.features)
    model.doc_string = (
        f"Which of {len(settings.languages)} languages is spoken in windows of sound, {window.rate_hz} Hz, mono. "
        f"One row of `samples` is a window: {window.before} zeros, the recording from its beginning, zeros up to "
        f"{window.samples}; `lengths` is the number of samples of the recording. Cut longer recordings into windows "
        f"that begin at multiples of {window.hop_length} samples, with the {window.before} samples before each in "
        "place of the zeros, and average the logarithms of their probabilities."
    )
    described = {
        "samples": "full scale is 1",
        "lengths": f"samples of the recording from the window's sample {window.before} on",
        OUTPUT: "in the order of the metadata's `languages`; each row sums to 1",
    }
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = described[value.name]
    values = (
        settings.model_dump(mode="json", exclude={"train", "format"})
        | sources
        | {
            "format": FORMAT,
            "input": dataclasses.asdict(window),
        }
    )
    del model.metadata_props[:]
    for key in sorted(values):
        model.metadata_props.add(key=key, value=json.dumps(values[key], sort_keys=True, ensure_ascii=False))
