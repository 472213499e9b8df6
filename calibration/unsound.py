"""Where a value that is not finite comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.session import open_session, part_of
from edgec.errors import UsageError

Array = NDArray[Any]
_REMEDY = "look at the samples and at the model there, or keep the tensor out of quantisation"


def check_finite(model: ir.Model, name: str, feeds: Mapping[str, Array]) -> None:
    """Runs the model as written up to a value, and finds out where NaN or infinities begin.

    Args:
        model: Computes the value.
        name: The value.
        feeds: A batch.

    Errors:
        UsageError: The value is not finite; the error names the node that is the first to make
            such a value, on the way to this one.
    """
    part = part_of(model, [v.name or "" for v in model.graph.inputs], [name])
    values = {v.name or "": v for node in part.graph for v in node.outputs if v.name}
    part.graph.outputs[:] = [v for v in values.values() if _may_be_float(v)]
    session = open_session(part, optimise=False)
    names = [v.name for v in session.get_outputs()]
    wanted = {v.name: feeds[v.name] for v in session.get_inputs()}
    bad = {n: w for n, a in zip(names, session.run(names, wanted), strict=True) if (w := _word(a))}
    if name not in bad:
        return
    made = name
    while (before := _bad_input(values[made], bad)) is not None:
        made = before
    node = values[made].producer()
    assert node is not None
    weight = next((v.name for v in node.inputs if v is not None and _is_bad_weight(v)), None)
    origin = f"the weight '{weight}'" if weight else "finite inputs"
    first = f"{node.op_type} '{node.name or made}' makes it first, from {origin}"
    if made != name:
        first = f"{first}, as '{made}'"
    raise UsageError(f"activation '{name}'", f"holds {bad[name]}: {first}", _REMEDY)


def _bad_input(value: ir.Value, bad: Mapping[str, str]) -> str | None:
    node = value.producer()
    inputs = [] if node is None else [v.name or "" for v in node.inputs if v is not None]
    return next((name for name in inputs if name in bad), None)


def _may_be_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def _is_bad_weight(value: ir.Value) -> bool:
    return value.const_value is not None and bool(_word(value.const_value.numpy()))


def _word(array: Any) -> str:
    """`NaN`, `an infinity`, or nothing if the array is finite."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return ""
    if np.isnan(array).any():
        return "NaN"
    return "an infinity" if np.isinf(array).any() else ""
