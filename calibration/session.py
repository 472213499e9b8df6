"""ONNX Runtime sessions on a part of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from onnx_ir.convenience import extract

from edgec.errors import UsageError
from edgec.model import release_pages, to_bytes

_QUIET = 4  # errors reach us as exceptions; ONNX Runtime need not print them too
_MAPPED_BYTES = 8 << 20  # weights from here on go through a file, which a session maps: no copies


def part_of(model: ir.Model, inputs: Sequence[str], outputs: Collection[str]) -> ir.Model:
    """The part of a model that computes `outputs` from `inputs`; it shares the weights' values.

    Outputs are of any shape: a declared batch size need not be the one that runs.

    Errors:
        UsageError: A name that is no value of the model.
    """
    try:
        graph = extract(model.graph, list(inputs), list(outputs))
    except ValueError as error:
        raise UsageError("intermediate values", str(error), "name values of the model") from error
    for value in [v for v in graph.inputs if not v.uses() and not v.is_graph_output()]:
        graph.inputs.remove(value)
    for value in graph.outputs:
        value.shape = None
    weights = dict(graph.initializers)
    graph.initializers.clear()  # the order in which they were found says nothing
    graph.initializers.update({n: weights[n] for n in model.graph.initializers if n in weights})
    part = ir.Model(graph, ir_version=model.ir_version)
    part.meta.update(model.meta)
    return part


def open_session(
    model: ir.Model, *, optimise: bool = True, threads: int | None = None, lean: bool = False
) -> ort.InferenceSession:
    """A session on the CPU.

    Args:
        model: The model.
        optimise: Whether ONNX Runtime may fuse and re-order operators.
        threads: Inside one operator; None: one per core.
        lean: Take no more memory than the values in use need, and use each as soon as it is there.
    """
    options = ort.SessionOptions()
    if lean:
        _share_a_lean_allocator()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False  # plans all values of a run as one block
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = _QUIET
    # Sessions run in turns here: threads that spin for more work would hold up the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    weights = [v.const_value for v in model.graph.initializers.values()]
    if sum(tensor.nbytes for tensor in weights if tensor is not None) < _MAPPED_BYTES:
        return ort.InferenceSession(to_bytes(model), options, providers=providers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        ir.save(model, path, format="protobuf", external_data="model.onnx.data")
        release_pages(model)
        return ort.InferenceSession(str(path), options, providers=providers)


@cache
def _share_a_lean_allocator() -> None:
    """One that grows by what is asked for, not by powers of two; for sessions that want it."""
    kind = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    same_as_requested = {"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1 << 20}
    ort.create_and_register_allocator(kind, ort.OrtArenaCfg(same_as_requested))
