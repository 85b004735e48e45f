"""Smaller ONNX files: weights in float16, and a network that computes in int8.

The front end always computes in float32: powers of quiet sounds are below what float16 can hold, and its dB are read
off over a range of eight decades.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

_LEAST_NUMBERS = 256  # arrays with fewer stay as they are: no bytes to win
_SCALED = ("QuantizeLinear", "DequantizeLinear")


def with_half_weights(data: bytes) -> bytes:
    """The same file with its arrays stored in float16, which are made float32 when it is loaded."""
    model = onnx.load_from_string(data)
    graph = model.graph
    scales = {name for node in graph.node if node.op_type in _SCALED for name in node.input}
    casts = []
    for tensor in graph.initializer:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or name in scales or not worth_halving(values):
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*casts, *graph.node)]
    del graph.node[:]
    graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def worth_halving(values: np.ndarray) -> bool:
    """Whether float32 values are many enough, and small enough for float16."""
    return values.size >= _LEAST_NUMBERS and float(np.abs(values).max()) < float(np.finfo(np.float16).max)


def with_int8_network(data: bytes, windows: Iterable[dict[str, np.ndarray]]) -> bytes:
    """The same file with the network's convolutions in int8, ranges as the windows have them, the rest in float16.

    Sums, poolings and the last layers stay in float32: together they are a hundredth of the work, and rounding them
    costs six times the error (docs/export.md).

    windows : inputs of the model, real sound
    """
    front_end = front_end_nodes(onnx.load_from_string(data).graph)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        before.write_bytes(data)
        logging.disable(logging.WARNING)  # it advises to optimise first, which would rename the front end's nodes
        try:
            _quantize(before, after, _Reader(windows), front_end)
        finally:
            logging.disable(logging.NOTSET)
        return with_half_weights(after.read_bytes())


def _quantize(before: Path, after: Path, windows: CalibrationDataReader, front_end: set[str]) -> None:
    quantize_static(
        before, after, windows, quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax, op_types_to_quantize=["Conv"],
        nodes_to_exclude=sorted(front_end),
    )  # fmt: skip


def front_end_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that make the image: all that the last rounding, that of the pixels, needs."""
    maker = {name: node for node in graph.node for name in node.output}
    rounding = [node for node in graph.node if node.op_type == "Round"][-1]
    found: dict[str, onnx.NodeProto] = {}
    walk = [rounding]
    while walk:
        node = walk.pop()
        if node.name not in found:
            found[node.name] = node
            walk += [maker[name] for name in node.input if name in maker]
    return set(found)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, windows: Iterable[dict[str, np.ndarray]]) -> None:
        self.windows: Iterator[dict[str, np.ndarray]] = iter(windows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.windows, None)
