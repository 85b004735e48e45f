"""Smaller LiteRT files: weights in float16, or the network's convolutions in int8.

The converter's own float16 and int8 take the front end along, and there they do harm (docs/export.md has the numbers):
in float16 the smallest power that counts becomes 0 and its logarithm infinite; in int8 the spectrum drowns in the
rounding of the samples. So the weights are exchanged here, in the finished file, where they are known by their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from stages.exporting.small_onnx import worth_halving

_Operator = schema.BuiltinOperator
_WITH_WEIGHTS = (_Operator.CONV_2D, _Operator.DEPTHWISE_CONV_2D, _Operator.FULLY_CONNECTED)


def smaller(data: bytes, precision: str) -> bytes:
    """A LiteRT model with its weights in another precision; what follows the model in `data` is lost.

    precision : float16, made float32 when the model is loaded; or int8, which leaves in float16 what is no convolution
        of the network's. An int8 convolution rounds its input to int8 while it runs ("dynamic range").
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    graph = model.subgraphs[0]
    front_end = _front_end(graph, lambda operator: _code(model, operator))
    changed: set[int] = set()
    for operator, place in list(_weights(model, graph)):
        if place in changed:
            continue
        changed.add(place)
        convolves = _code(model, operator) == _Operator.CONV_2D and id(operator) not in front_end
        if precision == "int8" and convolves:
            _round_to_int8(model, graph.tensors[place])
        else:
            _store_as_half(model, graph, place)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _weights(model: Any, graph: Any) -> Iterator[tuple[Any, int]]:
    """Operators and the numbers of their weight tensors, as far as those are worth it."""
    for operator in graph.operators:
        if _code(model, operator) in _WITH_WEIGHTS:
            place = int(operator.inputs[1])
            tensor = graph.tensors[place]
            constant = model.buffers[tensor.buffer].data is not None
            if constant and tensor.type == schema.TensorType.FLOAT32 and worth_halving(_values(model, tensor)):
                yield operator, place


def _front_end(graph: Any, code: Callable[[Any], int]) -> set[int]:
    """Ids of the operators that make the image: all that the last rounding, that of the pixels, needs."""
    maker = {int(place): operator for operator in graph.operators for place in operator.outputs}
    walk = [[operator for operator in graph.operators if code(operator) == _Operator.ROUND][-1]]
    found: set[int] = set()
    while walk:
        operator = walk.pop()
        if id(operator) not in found:
            found.add(id(operator))
            walk += [maker[int(place)] for place in operator.inputs if int(place) in maker]
    return found


def _values(model: Any, tensor: Any) -> np.ndarray:
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view("<f4").reshape(tensor.shape)


def _new_buffer(model: Any, values: np.ndarray) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _round_to_int8(model: Any, tensor: Any) -> None:
    """One scale for each output channel, the first axis."""
    values = _values(model, tensor)
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)))
    scale = np.maximum(largest, np.finfo(np.float32).tiny) / np.float32(127)
    rounded = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
    tensor.type = schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scale.astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scale), np.int64)
    tensor.quantization.quantizedDimension = 0
    model.buffers[tensor.buffer].data = np.frombuffer(rounded.tobytes(), np.uint8)


def _store_as_half(model: Any, graph: Any, place: int) -> None:
    """The tensor is made from one of float16 by an operator in front of all others, which runs once."""
    tensor = graph.tensors[place]
    half = schema.TensorT()
    half.shape, half.type = tensor.shape, schema.TensorType.FLOAT16
    half.name = tensor.name + b"_half"
    half.buffer = _new_buffer(model, _values(model, tensor).astype("<f2"))
    graph.tensors.append(half)
    model.buffers[tensor.buffer].data = None
    tensor.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex = _dequantize(model)
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [place]
    graph.operators.insert(0, operator)


def _dequantize(model: Any) -> int:
    """The number of this operation in the model's list, which it is added to where it is missing."""
    for number, code in enumerate(model.operatorCodes):
        if code.builtinCode == _Operator.DEQUANTIZE:
            return number
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = _Operator.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
