"""The reference backend: ONNX's own evaluator in numpy. Slow, and the oracle for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from edgec.errors import UnsupportedError
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


@dataclass(frozen=True)
class ReferenceTarget(Target):
    """Builds an ONNX file and runs it in numpy."""

    backend: ClassVar[str] = "reference"

    def supports(self, model: ir.Model) -> tuple[Refusal, ...]:
        """Operators that the evaluator does not implement."""
        nodes: dict[str, list[ir.Node]] = {}
        for node in model.graph.all_nodes():
            nodes.setdefault(op_name(node), []).append(node)
        opsets = dict(model.opset_imports)
        refusals = []
        for op, alike in nodes.items():
            try:
                ReferenceEvaluator(serde.serialize_node(alike[0]), opsets=opsets)
            except RuntimeError as error:  # NotImplementedError is one
                names = tuple(map(node_name, alike))
                remedy = "replace it in the source model"
                refusals.append(Refusal(op, names, str(error).splitlines()[0], remedy))
        return tuple(refusals)

    def load(self, artifact: Artifact) -> ReferenceRunnable:
        """Read the ONNX file."""
        try:
            return ReferenceRunnable(ReferenceEvaluator(str(artifact.entry)))
        except (RuntimeError, ValueError, OSError, DecodeError) as error:
            remedy = "take another --backend, or a model of a younger operator set"
            raise UnsupportedError(
                artifact.entry.name, f"cannot be loaded: {error}", remedy
            ) from error


@dataclass(frozen=True)
class ReferenceRunnable:
    """A loaded ONNX file."""

    evaluator: ReferenceEvaluator

    def run(self, feeds: Feeds) -> Outputs:
        """Compute all outputs in numpy."""
        check_feeds(feeds, self.evaluator.input_names)
        try:
            values: Any = self.evaluator.run(None, dict(feeds))
        except Exception as error:  # numpy's errors, of many kinds, from deep inside an operator
            fact = f"fails while running: {type(error).__name__}: {error}"
            raise UnsupportedError("reference", fact, "check the shapes of the inputs") from error
        return named(self.evaluator.output_names, values)
