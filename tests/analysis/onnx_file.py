"""ONNX files of a few hundred bytes, written by hand: ModelProto in the wire format of Protocol Buffers."""

import struct
from collections.abc import Sequence


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 127
        out += bytes([low | (128 if number else 0)])
        if not number:
            return out


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, shape: Sequence[int], values: Sequence[float], *, outside: bool = False) -> bytes:
    """TensorProto of float32: dims, data_type, float_data, name (and data_location: EXTERNAL)."""
    dims = b"".join(field(1, size) for size in shape)
    data = field(14, 1) if outside else field(9, struct.pack(f"<{len(values)}f", *values))
    return dims + field(2, 1) + field(8, name) + data


def value_info(name: str, shape: Sequence[int | str], kind: int = 1) -> bytes:
    """ValueInfoProto: name, and a tensor of `kind` (1: float32) with sizes or names of sizes."""
    dims = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def node(operator: str, inputs: Sequence[str], output: str, domain: str = "") -> bytes:
    named = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator)
    return named + (field(7, domain) if domain else b"")


def logistic(
    weights: Sequence[float],
    bias: float,
    *,
    opset: int = 17,
    domain: str = "",
    outside: bool = False,
    columns: int | None = None,
    kind: int = 1,
) -> bytes:
    """`100 / (1 + exp(-(x·weights + bias)))` of one row x of float32."""
    graph = b"".join(
        field(1, one)
        for one in (
            node("MatMul", ["x", "w"], "product"),
            node("Add", ["product", "b"], "sum"),
            node("Sigmoid", ["sum"], "p"),
            node("Mul", ["p", "hundred"], "y", domain),
        )
    )
    size = len(weights) if columns is None else columns
    graph += field(2, "risk")
    graph += field(5, tensor("w", [size, 1], [*weights, *[0.0] * (size - len(weights))], outside=outside))
    graph += field(5, tensor("b", [1], [bias])) + field(5, tensor("hundred", [1], [100.0]))
    graph += field(11, value_info("x", ["rows", size], kind)) + field(12, value_info("y", ["rows", 1]))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, opset))
