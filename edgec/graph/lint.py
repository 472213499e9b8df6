"""Whether a graph is well formed: every value defined before use, every name once."""

from __future__ import annotations

import onnx_ir as ir

from edgec.errors import VerificationError

_REMEDY = "nothing was written; this is a defect of edgec, please report the model"


def lint(model: ir.Model) -> None:
    """Checks the main graph.

    Raises:
        VerificationError: A node reads a value that nothing has made yet, a name is defined
            twice, or a graph output has no producer.
    """
    known: set[str] = set()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        known.add(value.name or "")
    for node in model.graph:
        for read in node.inputs:
            if read is not None and (read.name or "") not in known:
                raise VerificationError(
                    f"node '{node.name or node.op_type}'",
                    f"reads '{read.name}' before anything has made it",
                    _REMEDY,
                )
        for value in node.outputs:
            if value.name and value.name in known:
                raise VerificationError(
                    f"node '{node.name or node.op_type}'",
                    f"makes '{value.name}' a second time",
                    _REMEDY,
                )
            known.add(value.name or "")
    for value in model.graph.outputs:
        if (value.name or "") not in known:
            raise VerificationError(f"graph output '{value.name}'", "is made by no node", _REMEDY)
