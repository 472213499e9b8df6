"""Which nodes must stay in float32 when a graph goes to 16 bits, and why.

    float16     11 bits of precision, from 6e-8 to 65504
    bfloat16     8 bits of precision, the range of float32

Four kinds of reasons: the operator has no such type; the operator loses too much (`CRITICAL`);
a constant or a calibrated range does not fit; whole numbers are counted beyond what is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.facts import Facts
from edgec.ops.view import Barrier, Fact, View

Array = NDArray[Any]
Ranges = Mapping[str, tuple[float, float]]
Slots = tuple[tuple[int, ...], tuple[int, ...]]
"""The inputs and the outputs of a node that take its type."""


@dataclass(frozen=True)
class Format:
    """A floating-point type of 16 bits.

    Args:
        dtype: The element type.
        largest: The largest finite number.
        normal: The smallest number of full precision.
        unit: The relative error of rounding, at most.
    """

    dtype: ir.DataType
    largest: float
    normal: float
    unit: float

    @classmethod
    def of(cls, dtype: ir.DataType) -> Format:
        """The format of an element type."""
        info: Any = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
        return cls(dtype, float(info.max), float(info.smallest_normal), float(info.eps) / 2)

    @property
    def word(self) -> str:
        """`float16` or `bfloat16`."""
        return self.dtype.name.lower()

    @property
    def exact(self) -> int:
        """Whole numbers up to this one are exact."""
        return round(1 / self.unit)

    def rounded(self, x: Array) -> Array:
        """`x` in this type; finite numbers stay finite."""
        with np.errstate(over="ignore"):
            y = np.asarray(x.astype(self.dtype.numpy()))
        if np.abs(x).max(initial=0.0) > self.largest:
            over = np.isinf(y) & np.isfinite(x)
            y[over] = np.copysign(self.largest, x[over])
        return y


FORMATS = {f.word: f for f in map(Format.of, (ir.DataType.FLOAT16, ir.DataType.BFLOAT16))}

_CHUNK = 1 << 18  # elements of a weight that are looked at together

HEADROOM = 2.0
"""Calibration sees some samples: others may go this much further."""


# --- operators that lose too much -----------------------------------------------------------------


def _many(n: View, f: Format) -> bool:
    """Whether a sum of that many numbers, rounded each time, may be off by an eighth."""
    return _summed(n) * f.unit > 1 / 8


def _summed(n: View) -> float:
    """How many elements of the first input go into one of the output; unknown shapes: all."""
    try:
        return prod(n.shape(0)) / max(prod(n.out_shape()), 1)
    except Barrier:
        return float("inf")


def _window(n: View, f: Format) -> bool:
    return bool(prod(n.attr("kernel_shape", ())) * f.unit > 1 / 8)


def _along(n: View, f: Format) -> bool:
    axis = n.const(1)
    try:
        size = max(n.shape(0)) if axis is None else n.shape(0)[int(axis)]
    except Barrier:
        return True
    return size * f.unit > 1 / 8


def _narrow_statistics(n: View, f: Format) -> bool:
    """Whether the operator does not promise float32 for its statistics (`stash_type`)."""
    if n.attr("stash_type", 1) != 1:
        return True
    return "stash_type" not in onnx.defs.get_schema(n.node.op_type, n.opset, "").attributes


def _short(n: View, f: Format) -> bool:
    """Whether the exponent is short: squares and exponentials leave it soon."""
    return f.largest < 1e30


def _squares(n: View, f: Format) -> bool:
    return _short(n, f) or _many(n, f)


def _powers(n: View, f: Format) -> bool:
    exponent = n.const(1)
    return _short(n, f) and (exponent is None or bool((np.abs(exponent) > 1).any()))


def _itself(n: View, f: Format) -> bool:
    return _short(n, f) and n.node.inputs[0] is n.node.inputs[1]


def _always(n: View, f: Format) -> bool:
    return True


@dataclass(frozen=True)
class Critical:
    """An operator that stays in float32.

    Args:
        why: The reason, as the end of a sentence about the node.
        when: Whether it holds for this node and format.
        spared: Whether calibrated ranges that fit, of what it reads and makes, clear it.
    """

    why: str
    when: Callable[[View, Format], bool]
    spared: bool = False


_SUM = Critical("adds up more numbers than its precision allows", _many)
_SQUARES = Critical("adds up squares, which overflow soon", _squares)
_STATISTICS = Critical("takes statistics, of which no wider type is promised", _narrow_statistics)
_COORDINATES = Critical("reads at coordinates, which must be exact to a part of a pixel", _always)
_PERIODIC = Critical("is periodic: only the last bits of a large argument count", _always)

CRITICAL: Mapping[str, Critical] = {
    **dict.fromkeys(
        ("Softmax", "LogSoftmax"), Critical("adds up exponentials along an axis", _always)
    ),
    **dict.fromkeys(
        ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceProd", "GlobalAveragePool"), _SUM
    ),
    **dict.fromkeys(
        ("ReduceLogSumExp", "ReduceLogSum"), Critical("adds up exponentials", _squares)
    ),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare", "GlobalLpPool", "LpPool"), _SQUARES),
    **dict.fromkeys(("LRN", "LpNormalization"), Critical("adds up squares", _short)),
    "AveragePool": Critical(_SUM.why, _window),
    "CumSum": Critical("adds up along an axis", _along),
    **dict.fromkeys(
        ("LayerNormalization", "GroupNormalization", "RMSNormalization", "InstanceNormalization",
         "MeanVarianceNormalization"),
        _STATISTICS,
    ),
    "Exp": Critical("overflows where its argument exceeds 11", _short, spared=True),
    "Pow": Critical("overflows: squares do beyond 255", _powers, spared=True),
    "Mul": Critical("squares, which overflows beyond 255", _itself, spared=True),
    **dict.fromkeys(("GridSample", "RoiAlign", "AffineGrid", "DeformConv"), _COORDINATES),
    **dict.fromkeys(("Sin", "Cos", "Tan"), _PERIODIC),
}  # fmt: skip

# Whatever these read, what they make is of the order of 1.
_BOUNDED = {
    "Softmax", "Hardmax", "Sigmoid", "HardSigmoid", "Tanh", "Softsign", "Erf", "Sin", "Cos", "Sign",
    "LayerNormalization", "GroupNormalization", "RMSNormalization", "InstanceNormalization",
    "MeanVarianceNormalization", "LpNormalization",
}  # fmt: skip
# Constants that only bound others: the largest number is as good a bound as any beyond it.
_BOUNDS: Mapping[str, tuple[int, ...]] = {"Clip": (1, 2), "Max": (0, 1), "Min": (0, 1)}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm"}
_LARGE_INTEGERS = {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT32, ir.DataType.UINT64}
_BY_ATTRIBUTE = ("dtype", "output_datatype", "output_dtype")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


# --- types ----------------------------------------------------------------------------------------


def slots(node: ir.Node, facts: Facts, dtype: ir.DataType) -> Slots | str:
    """Which float32 inputs and outputs can be of `dtype` together; or why none can."""
    fact = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
    made = [facts.get(v, Fact()) for v in node.outputs]
    if any(a.type in _GRAPHS for a in node.attributes.values()):
        return "runs a nested graph"
    unknown = [
        v.name
        for v, f in zip((*node.inputs, *node.outputs), (*fact, *made), strict=True)
        if v is not None and v.name and (f is None or f.dtype is None)
    ]
    if unknown:
        return f"reads or makes '{unknown[0]}', of unknown type"
    reads = tuple(i for i, f in enumerate(fact) if f and f.dtype == ir.DataType.FLOAT)
    makes = tuple(i for i, f in enumerate(made) if f.dtype == ir.DataType.FLOAT)
    if not reads and not makes:
        return ((), ())
    if node.domain not in ("", "ai.onnx"):
        return f"is of the domain '{node.domain}': the types that it takes are not known"
    if node.op_type == "Cast":
        return ((), makes)  # it reads whatever there is
    if node.op_type in ("Constant", "ConstantOfShape"):
        return ((), makes) if "value" in node.attributes else "says its type in an attribute"
    if node.op_type == "CastLike" or (
        makes and any(name in node.attributes for name in _BY_ATTRIBUTE)
    ):
        return "says its type in an attribute"
    opset = node.graph.opset_imports.get("", 1) if node.graph is not None else 1
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    if len(makes) > 1 and "stash_type" in schema.attributes:
        return "gives its statistics, whose type is an attribute"
    word = f"tensor({dtype.name.lower()})"
    able = {c.type_param_str for c in schema.type_constraints if word in c.allowed_type_strs}
    takes = tuple(i for i in reads if _formal(schema.inputs, i).type_str in able)
    if not (takes or makes) or any(_formal(schema.outputs, i).type_str not in able for i in makes):
        return f"has no {dtype.name.lower()} in operator set {opset}"
    if not makes and takes != reads:
        return f"has no {dtype.name.lower()} for all that it reads"
    return takes, makes


def _formal(formals: Sequence[Any], i: int) -> Any:
    """The schema's parameter number `i`; the last may be repeated."""
    return formals[min(i, len(formals) - 1)]


# --- reasons --------------------------------------------------------------------------------------


def islands(
    model: ir.Model, facts: Facts, to: Format, ranges: Ranges, lacking: Mapping[str, str]
) -> dict[ir.Node, str]:
    """Node → why it stays in float32.

    Args:
        model: The graph.
        facts: Types and shapes of its values.
        to: The format of the rest.
        ranges: Value → its least and greatest number over the calibration samples.
        lacking: Operator → why the target has no kernel of the format for it.
    """
    return _Reasons(model, facts, to, ranges, lacking).found


class _Reasons:
    """One walk along the graph; what a value carries is known before its readers are looked at."""

    def __init__(
        self, model: ir.Model, facts: Facts, to: Format, ranges: Ranges, lacking: Mapping[str, str]
    ) -> None:
        self.facts, self.to, self.ranges = facts, to, ranges
        # Value → the constant beyond the format that it may carry on.
        self.huge, self.lossy = _misfits(model, to)
        self.whole: set[ir.Value] = set()  # floats computed from whole numbers alone
        self.found: dict[ir.Node, str] = {}
        for node in model.graph:
            taken = slots(node, facts, to.dtype)
            why = taken if isinstance(taken, str) else lacking.get(node.op_type)
            why = why or self._of_values(node) or self._of_operator(node)
            if why is not None and taken != ((), ()):
                self.found[node] = why

    def _of_operator(self, node: ir.Node) -> str | None:
        critical = CRITICAL.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if critical is None:
            return None
        if critical.spared and all(self._fits(v) for v in (*node.inputs, *node.outputs)):
            return None
        x = [None if v is None else self.facts.get(v, Fact()) for v in node.inputs]
        view = View(node, x, [self.facts.get(v, Fact()) for v in node.outputs])
        return critical.why if critical.when(view, self.to) else None

    def _of_values(self, node: ir.Node) -> str | None:
        """The first of the reasons that lie in what the node reads and makes."""
        carried = self._carry_huge(node)
        counted = self._carry_whole(node)
        misfit = self._misfit(node)
        ranged = [self._out_of_range(v) for v in (*node.inputs, *node.outputs)]
        return misfit or carried or next((why for why in ranged if why), None) or counted

    def _misfit(self, node: ir.Node) -> str | None:
        """Constants of which the format loses too much."""
        for value in node.inputs:
            if value is not None and value in self.lossy:
                return self.lossy[value]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return _scale_misfit(node.inputs[1], self.to)
        return None

    def _carry_huge(self, node: ir.Node) -> str | None:
        """Constants beyond the format, and what they may have been added to or chosen for."""
        bounds = _BOUNDS.get(node.op_type, ())
        for i, value in enumerate(node.inputs):
            if value is None or (i in bounds and value.const_value is not None):
                continue
            if value in self.huge:
                if node.op_type not in _BOUNDED:
                    made = [v for v in node.outputs if self._is_float(v)]
                    self.huge.update(dict.fromkeys(made, self.huge[value]))
                return f"may carry '{self.huge[value]}', which exceeds {self.to.largest:.5g}"
        return None

    def _carry_whole(self, node: ir.Node) -> str | None:
        why = f"computes with whole numbers, which are exact up to {self.to.exact} only"
        if node.op_type == "Cast":
            x = node.inputs[0]
            dtype = self.facts.get(x, Fact()).dtype if x is not None else None
            if dtype in _LARGE_INTEGERS and self._is_float(node.outputs[0]):
                if self._within(node.outputs[0], self.to.exact):
                    return None
                self.whole.add(node.outputs[0])
                return why
            if x not in self.whole:
                return None
        reads = [v for v in node.inputs if v is not None and self._is_float(v)]
        plain = all(v in self.whole or v.const_value is not None for v in reads)
        if not plain or not any(v in self.whole for v in reads) or self._sums(node):
            return None
        if node.op_type not in _BOUNDED:
            self.whole.update(v for v in node.outputs if self._is_float(v))
        return why

    def _sums(self, node: ir.Node) -> bool:
        """Whether a product adds up, as layers do; an outer product does not."""
        if node.op_type == "MatMul" and node.inputs[0] is not None:
            shape = self.facts.get(node.inputs[0], Fact()).shape
            return shape is None or shape[-1:] != (1,)
        return node.op_type in _PRODUCTS

    def _out_of_range(self, value: ir.Value | None) -> str | None:
        ends = None if value is None else self.ranges.get(value.name or "")
        if value is None or ends is None or not self._is_float(value):
            return None
        reach = max(map(abs, ends))
        if reach * HEADROOM > self.to.largest:
            return (
                f"'{value.name}' reaches {reach:.3g}; {self.to.word} ends at {self.to.largest:.5g}"
            )
        if 0 < reach < self.to.normal:
            return f"'{value.name}' never exceeds {reach:.3g}, too little for {self.to.word}"
        return None

    def _within(self, value: ir.Value, bound: float) -> bool:
        ends = self.ranges.get(value.name or "")
        return ends is not None and max(map(abs, ends)) * HEADROOM <= bound

    def _fits(self, value: ir.Value | None) -> bool:
        if value is None or value.const_value is not None or not self._is_float(value):
            return True
        return self._within(value, self.to.largest)

    def _is_float(self, value: ir.Value) -> bool:
        return self.facts.get(value, Fact()).dtype == ir.DataType.FLOAT


def _misfits(model: ir.Model, to: Format) -> tuple[dict[ir.Value, str], dict[ir.Value, str]]:
    """Constants beyond the format, by their names; those that rounding hurts, with the loss."""
    huge, lossy = {}, {}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
            continue
        largest, loss = _loss(tensor.numpy().ravel(), to)
        if largest > to.largest:
            huge[value] = value.name or ""
        elif loss > 2 * to.unit:
            lossy[value] = f"reads '{value.name}', of which {to.word} loses {loss:.1%}"
    return huge, lossy


def _loss(data: Array, to: Format) -> tuple[float, float]:
    """The largest finite number, and what rounding loses: √(Σ(x − x̂)² / Σx²) of finite ones."""
    largest = whole = lost = 0.0
    for start in range(0, data.size, _CHUNK):
        part = data[start : start + _CHUNK]
        part = part if np.isfinite(part).all() else part[np.isfinite(part)]
        scale = float(np.abs(part).max(initial=0.0)) or 1.0
        part = part / scale  # so that no square leaves float32
        rest = part - to.rounded(part * scale).astype(np.float32) / scale
        largest = max(largest, scale if part.any() else 0.0)
        whole += scale**2 * float(part @ part)
        lost += scale**2 * float(rest @ rest)
    return largest, (lost / whole) ** 0.5 if whole else 0.0


def _scale_misfit(scale: ir.Value | None, to: Format) -> str | None:
    """Each scale multiplies a channel of its own: none may be off by half a step in 128."""
    if scale is None or scale.const_value is None or scale.const_value.dtype != ir.DataType.FLOAT:
        return None
    data = scale.const_value.numpy().astype(np.float64)
    loss = float(np.max(np.abs(to.rounded(data).astype(np.float64) / data - 1), initial=0.0))
    if loss <= 1 / 256:
        return None
    return f"scales by '{scale.name}', of which {to.word} loses {loss:.1%}"
