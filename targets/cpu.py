"""The CPU, through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from onnx_ir.passes.common import ShapeInferencePass
from onnxruntime.capi import (  # type: ignore[import-untyped, unused-ignore]
    onnxruntime_pybind11_state as ort_errors,
)

from edgec.errors import UnsupportedError, UsageError
from edgec.model import to_bytes
from edgec.targets.base import (
    Artifact,
    Feeds,
    Outputs,
    Refusal,
    Target,
    check_feeds,
    named,
    node_name,
    op_name,
)

_FATAL = 4  # errors reach us as exceptions; ONNX Runtime need not print them too
_SMALL_BYTES = 4096
_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_UNREGISTERED = " registered "
_REMEDY = "replace it in the source model, or choose another --target"
_ERRORS = tuple(
    getattr(ort_errors, name)
    for name in ("EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph",
                 "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException")
)  # fmt: skip


@dataclass(frozen=True)
class CpuTarget(Target):
    """Builds an ONNX file and runs it with ONNX Runtime's CPU kernels, one after the other."""

    backend: ClassVar[str] = "onnxruntime"

    def supports(self, model: ir.Model) -> tuple[Refusal, ...]:
        """Operators without a CPU kernel for their version and types.

        ONNX Runtime names the first one only, so each kind of node is then tried by itself.
        """
        light = _without_weights(model)
        reason = _refusal(light)
        if reason is not None:
            with suppress(UnsupportedError):  # larger than one protobuf: the first answer stands
                reason = _refusal(model)  # a kernel may want a large constant
        if reason is None:
            return ()
        ShapeInferencePass(check_type=False, data_prop=False)(light)
        found: dict[tuple[str, str], list[str]] = {}
        tried: dict[tuple[object, ...], str | None] = {}
        nodes = [] if _refusal(_alone(_identity(), light)) else light.graph
        for node in nodes:
            if any(a.type in _BODIES for a in node.attributes.values()):
                continue  # its body reads values of the graph around it
            kind = (op_name(node), *(v and (v.dtype, v.const_value is None) for v in node.inputs))
            if kind not in tried:
                tried[kind] = _refusal(_alone(node, light))
                guessed = any(v is not None and v.type is None for v in node.inputs)
                if guessed and _UNREGISTERED not in (tried[kind] or ""):
                    tried[kind] = None  # it may be the guessed type that is refused
            if why := tried[kind]:
                found.setdefault((op_name(node), why), []).append(node_name(node))
        if not found:
            return (Refusal("", (), reason, _REMEDY),)
        return tuple(Refusal(op, tuple(n), why, _REMEDY) for (op, why), n in found.items())

    def load(self, artifact: Artifact) -> CpuRunnable:
        """Make a session, with all of ONNX Runtime's graph optimisations."""
        with _translated(str(artifact.entry), "cannot be loaded"):
            return CpuRunnable(_session(str(artifact.entry), self.threads, optimise=True))


@dataclass(frozen=True)
class CpuRunnable:
    """A session."""

    session: Any

    def run(self, feeds: Feeds) -> Outputs:
        """Compute all outputs."""
        check_feeds(feeds, [value.name for value in self.session.get_inputs()])
        with _translated("onnxruntime", "fails while running"):
            values = self.session.run(None, dict(feeds))
        return named([value.name for value in self.session.get_outputs()], values)


def _session(model: str | bytes, threads: int, *, optimise: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def _translated(subject: str, fact: str) -> Iterator[None]:
    try:
        yield
    except ort_errors.InvalidArgument as error:
        raise UsageError(subject, f"{fact}: {_clean(error)}", "check the inputs") from error
    except _ERRORS as error:
        raise UnsupportedError(subject, f"{fact}: {_clean(error)}", _REMEDY) from error


def _refusal(model: ir.Model) -> str | None:
    """Why ONNX Runtime does not take a model; None if it does."""
    try:
        _session(to_bytes(model), 1, optimise=False)
    except _ERRORS as error:
        return _clean(error)
    return None


def _clean(error: Exception) -> str:
    """ONNX Runtime's message without status, source file and C++ signature, on one line."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    if text.startswith("/") and (start := text.find("(")) >= 0:
        depth = 0
        for end in range(start, len(text)):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                text = text[end + 1 :].removeprefix(" const").strip() or text
                break
    return text


def _without_weights(model: ir.Model) -> ir.Model:
    """A copy whose large initializers are inputs: a session of it needs next to no memory."""
    light = model.clone()
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _SMALL_BYTES:
            del light.graph.initializers[name]
            value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
            value.const_value = None
            light.graph.inputs.append(value)
    return light


def _identity() -> ir.Node:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    return ir.Node("", "Identity", [value], outputs=[ir.Value(name="y", type=value.type)])


def _alone(node: ir.Node, model: ir.Model) -> ir.Model:
    """A model of this node alone; inputs of unknown type are float."""
    copies: dict[str, ir.Value] = {}
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        if value is None:
            inputs.append(None)
            continue
        kind = value.type or ir.TensorType(ir.DataType.FLOAT)
        copy = ir.Value(name=value.name, type=kind, shape=value.shape)
        copy.const_value = value.const_value
        inputs.append(copies.setdefault(value.name or "", copy))
    outputs = [ir.Value(name=value.name, type=value.type) for value in node.outputs]
    attributes = list(node.attributes.values())
    new = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=node.name)
    graph = ir.Graph(
        [value for value in copies.values() if value.const_value is None],
        [value for value in outputs if value.name],
        nodes=[new],
        initializers=[value for value in copies.values() if value.const_value is not None],
        opset_imports=dict(model.opset_imports),
        name="alone",
    )
    return ir.Model(graph, ir_version=model.ir_version)
