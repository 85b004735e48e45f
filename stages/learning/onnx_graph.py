"""A trained model as one ONNX file that takes sound and needs nothing of this repository.

Inputs and output are described in the file itself (`doc_string` of the model and of each input), what the model is in
its `metadata_props`, values as JSON (stages/exporting/metadata.py).

The same model gives the same bytes, at any time: names and order are made from the graph itself, and ONNX files hold no
dates.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import onnx
import tensorflow as tf
import tf2onnx

from stages.exporting.metadata import metadata_of
from stages.learning.front_end import window_input, with_front_end
from stages.learning.runtime import keras

if TYPE_CHECKING:
    from stages.learning.model_file import ModelSettings

logging.getLogger("tf2onnx").setLevel(logging.WARNING)  # it counts each kind of operation

OPSET = 18
OUTPUT = "probabilities"


def to_onnx(network: Any, settings: ModelSettings, more: dict[str, Any]) -> bytes:
    """The file's bytes.

    network : in float32, with the trained weights; more : what `metadata_of` takes
    """
    model = with_front_end(_reshaped_plainly(network), settings.features, settings.temperature)
    samples, lengths = (tf.TensorSpec(value.shape, value.dtype, name=value.name) for value in model.inputs)

    function = tf.function(lambda samples, lengths: model([samples, lengths], training=False))
    graph, _ = tf2onnx.convert.from_function(function, (samples, lengths), opset=OPSET)
    _order_plainly(graph.graph)
    _name_plainly(graph.graph)
    _describe(graph, settings, more)
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


class _Reshape(keras.layers.Layer):  # type: ignore[misc]
    """keras.layers.Reshape with the batch as -1: its shape is a constant."""

    def __init__(self, shape: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (-1, *self.shape))


def _reshaped_plainly(network: Any) -> Any:
    """The same network, weights shared; Keras's own Reshape asks for the batch's size, and the conversion makes a
    constant of that on some runs, as the order of its sets has it.
    """

    def replaced(layer: Any) -> Any:
        plain = isinstance(layer, keras.layers.Reshape) and None not in layer.output.shape[1:]
        return _Reshape(layer.output.shape[1:], name=layer.name) if plain else layer

    return keras.models.clone_model(network, clone_function=replaced)


def _order_plainly(graph: onnx.GraphProto) -> None:
    """Put the nodes in the order in which a walk back from the output needs them, which no name has a part in."""
    maker = {name: node for node in graph.node for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    walk = [(maker[graph.output[0].name], False)]
    while walk:
        node, inputs_done = walk.pop()
        if id(node) in done:
            continue
        if inputs_done:
            done.add(id(node))
            ordered.append(node)
            continue
        walk.append((node, True))
        walk += [(maker[name], False) for name in reversed(node.input) if name in maker]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


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
    graph.name, graph.doc_string = "spoken_language_recogniser", ""


def _describe(model: onnx.ModelProto, settings: ModelSettings, more: dict[str, Any]) -> None:
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
    values = metadata_of(settings, more)
    del model.metadata_props[:]
    for key in sorted(values):
        model.metadata_props.add(key=key, value=json.dumps(values[key], sort_keys=True, ensure_ascii=False))
