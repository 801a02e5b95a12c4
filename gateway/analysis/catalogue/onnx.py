"""Models that are an ONNX file beside their module, run by onnxruntime (MIT): the extra `onnx`.

The file is judged by its own bytes before the library reads it, and its digest is part of the model's. The
library starts with its telemetry off, computes on one thread, and runs in the child as every other model.
"""

import math
import os
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any

from gateway.analysis.catalogue.model import Model, Score, as_decimal
from ledger.errors import InvalidInput

MAX_BYTES = 64 * 1024 * 1024
OPSETS = range(7, 24)  # of the default domain
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Its uploader, events and device identifier do not come to be (onnxruntime, Privacy.md).
_TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


class OnnxModel(Model):
    """A model whose `compute` is the file `onnx` beside its module.

    The file has one float32 input of shape [n, number of inputs], in the order of `inputs`, and gives as its
    first output one float for each row. A number outside of `result` (in `unit`) is no result. The number is
    rounded to `step`, half to even.
    """

    onnx: str
    result: tuple[Decimal, Decimal]
    step = Decimal("0.1")
    rests_on = ("onnx",)

    def __init_subclass__(cls) -> None:
        cls.files = (cls.onnx,)

    def check(self) -> None:
        check(self.file(self.onnx))

    def score(self, given: Mapping[str, object]) -> Score:
        try:
            return super().score(given)
        except InvalidInput as error:
            if error.code != "onnx_result":
                raise
            return Score(None, self.unit, ("result.out_of_range",))

    def encode(self, values: Mapping[str, Any]) -> list[float]:
        """The row of values that are present and in range: numbers as they are, flags as 0 and 1.

        A model with coded inputs says here which number stands for which code.
        """
        row = []
        for each in self.inputs:
            if each.kind == "code":
                raise InvalidInput(
                    "A model with coded inputs has to say how they are encoded.", code="onnx_code_input"
                )
            row.append(float(values[each.name]))
        return row

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """Raises InvalidInput (`onnx_result`) where the file gives no number that the card allows."""
        import numpy

        row = numpy.array([self.encode(values)], dtype=numpy.float32)
        (found, *_) = self._session.run(None, {self._session.get_inputs()[0].name: row})
        given = numpy.asarray(found).reshape(-1)
        number = as_decimal(float(given[0])) if given.size == 1 and math.isfinite(given[0]) else None
        low, high = self.result
        if number is None or not low <= number <= high:
            raise InvalidInput("The file gave no number that its card allows.", code="onnx_result")
        return number.quantize(self.step)

    @cached_property
    def _session(self) -> Any:
        """Raises InvalidInput: the file is none that is run (`onnx_*`), or the extra is not installed."""
        data = self.file(self.onnx)
        check(data)
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception:  # its own classes, which are not ours to name; their text quotes the file
            raise InvalidInput("onnxruntime does not take this file.", code="onnx_malformed") from None
        self._check_shape(session)
        return session

    def _check_shape(self, session: Any) -> None:
        given, outputs = session.get_inputs(), session.get_outputs()
        fits = (
            len(given) == 1
            and given[0].type == "tensor(float)"
            and len(given[0].shape) == 2
            and given[0].shape[1] == len(self.inputs)
            and outputs[0].type == "tensor(float)"
        )
        if not fits:
            raise InvalidInput(
                "The file's input is not one row of float32 for the inputs of its card, or its output is "
                "no float32.",
                code="onnx_inputs",
            )


def check(data: bytes) -> None:
    """What the file says of itself: one graph, known operator sets, everything within it.

    Reads onnx.proto's ModelProto by its wire format, and no more of it than that. Raises InvalidInput.
    """
    if not 0 < len(data) <= MAX_BYTES:
        raise InvalidInput("An ONNX file has between 1 byte and 64 MiB.", code="onnx_size")
    try:
        model = list(_fields(data))
        opsets = [_opset(value) for number, value in model if number == 8]
        graphs = [value for number, value in model if number == 7]
        functions = [value for number, value in model if number == 25]
        graph = list(_fields(graphs[0])) if len(graphs) == 1 else []
        domains = {_text(node, 7) for number, node in graph if number == 1}
        tensors = [value for number, value in graph if number == 5]
        outside = any(number in (13, 14) and value != 0 for one in tensors for number, value in _fields(one))
    except (ValueError, TypeError, IndexError):
        raise InvalidInput("This is no ONNX file.", code="onnx_malformed") from None
    if len(graphs) != 1 or not opsets or functions:
        raise InvalidInput("An ONNX file has one graph, an operator set and no functions.", code="onnx_graph")
    for domain, version in opsets:
        if domain not in DOMAINS or (domain in ("", "ai.onnx") and version not in OPSETS):
            raise InvalidInput(
                f"Operator sets of ONNX itself are run, {OPSETS[0]} to {OPSETS[-1]}.", code="onnx_opset"
            )
    if not domains <= DOMAINS:
        raise InvalidInput("Operators of others than ONNX are not run.", code="onnx_opset")
    if outside:
        raise InvalidInput("Weights stand within the file, not beside it.", code="onnx_external")


def _runtime() -> Any:
    """onnxruntime, its telemetry off. Raises InvalidInput (`onnx_missing`, `onnx_telemetry`)."""
    if "onnxruntime" in sys.modules and os.environ.get(_TELEMETRY_OFF) != "1":
        raise InvalidInput(
            "onnxruntime was imported by somebody else, with its telemetry on.", code="onnx_telemetry"
        )
    os.environ[_TELEMETRY_OFF] = "1"
    try:
        import onnxruntime
    except ImportError:
        raise InvalidInput(
            "This model needs the extra `onnx`: pip install 'consent-gateway[onnx]'.", code="onnx_missing"
        ) from None
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _opset(value: Any) -> tuple[str, int]:
    """OperatorSetIdProto: domain, version."""
    version = [found for number, found in _fields(value) if number == 2]
    return _text(value, 1), int(version[-1])


def _text(value: Any, wanted: int) -> str:
    found = [one for number, one in _fields(value) if number == wanted]
    return bytes(found[-1]).decode() if found else ""


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Protocol Buffers' wire format: field number, integer or bytes. Raises ValueError, IndexError."""
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("a kind of field that ONNX does not have")
        if at + size > len(view):
            raise ValueError("a field that ends after its message")
        yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
