"""What every analysis starts from: nodes that can be told apart, constants folded, one spelling."""

from __future__ import annotations

import onnx_ir as ir

from edgec.passes.base import Context
from edgec.passes.expands import DropExpands
from edgec.passes.fold import Fold
from edgec.passes.fused import SpellOut
from edgec.passes.names import NameNodes
from edgec.passes.sequences import SplitSequences
from edgec.passes.states import ZeroStates


def prepared(model: ir.Model, context: Context | None = None) -> ir.Model:
    """The model in the form in which it is analysed; it is changed in place.

    Args:
        model: A model as `edgec.load` returns it.
        context: Notes which passes ran.
    """
    context = context or Context()
    for step in (NameNodes(), SpellOut(), Fold(), SplitSequences()):
        model = step(model, context)
    if SplitSequences.name in context.records:
        model = Fold()(model, context)  # weights that were split into sequences
    for rest in (DropExpands(), ZeroStates()):
        model = rest(model, context)
    return model
