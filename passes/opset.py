"""Raises the operator set of a model that is older than what a pass writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgec.model_opset import raise_opset
from edgec.passes.base import Context, Pass
from edgec.passes.fold import Fold


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """Converts a model to operator set `least`, if it has an older one.

    Args:
        least: The operator set that is wanted.
    """

    name: ClassVar[str] = "raise-opset"
    least: int

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Converts, and folds the constants that come with it."""
        raised = raise_opset(model, self.least)
        if raised is model:
            return model
        context.records[self.name] = {"from": model.opset_imports[""], "to": self.least}
        return Fold()(raised, context)
