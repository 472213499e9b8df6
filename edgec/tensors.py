"""Compares two models tensor by tensor: where a quantised one leaves its original, and by how much.

Tensors are matched by name. Of a graph with pairs of QuantizeLinear and DequantizeLinear,

    value    x before the pair, against x: what all that lies before has done
    rounded  what comes back from the pair, against x: that, and the rounding of x itself
    weight   what a stored weight stands for, against the weight of the same layer

Where the ends of a grid stand in for an activation (integers from 0 on for a Relu, which is then
left out of the graph), x before the pair is another tensor, and only what comes back is compared.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.data import DataSpec
from edgec.calibration.moments import runner
from edgec.compare import Comparison, Difference
from edgec.comparing import Pair, pair_of
from edgec.errors import UsageError
from edgec.foreign import translated
from edgec.graph.facts import facts_of
from edgec.ops.view import Fact

Array = NDArray[Any]
Kind = Literal["value", "rounded", "weight"]

_BYTES = 256 << 20  # of tensors that are held at a time, of both models
_BATCH = 16
_FLOATS = {
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, None,
}  # fmt: skip


@dataclass(frozen=True)
class TensorDifference(Difference):
    """How far one tensor of two models is apart.

    Attributes:
        kind: What is compared; see the head of the module.
        op: The operator that makes it in the first model; of a weight, that which reads it.
    """

    kind: Kind
    op: str


@dataclass(frozen=True)
class TensorReport:
    """Every tensor that two models share, worst first.

    Attributes:
        tensors: By SNR; what is not a number comes first.
        only_first, only_second: Tensors that only one of the models has.
        reshaped: Tensors whose shapes differ.
    """

    tensors: tuple[TensorDifference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    reshaped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Match:
    """A tensor `first` of one model and `second` of the other that ought to be equal."""

    kind: Kind
    first: str
    second: str
    op: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.first}:{self.second}"


def compare_tensors(
    first: Any,
    second: Any,
    *,
    data: DataSpec | None = None,
    seed: int = 0,
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> TensorReport:
    """How far all tensors are apart that two models share, over all of `data`.

    Args:
        first, second: See `edgec.load`.
        data: Samples; one batch of seeded random values if not given.
        seed: Of the random values.
        inputs: Concrete shapes for symbolic inputs.

    Raises:
        UsageError: The models do not take the same inputs, or share no tensor.
    """
    pair = pair_of(first, second, data, inputs)
    matches = activations(pair.first, pair.second)
    if not matches:
        raise UsageError(
            "the two models", "share no tensor: no name that nodes give is in both",
            "compare models that were made from one another",
        )  # fmt: skip
    groups, size = _groups(pair, matches, seed)
    found, reshaped = _streamed(pair, groups, size, seed)
    found += _weights(pair)
    shared = {name for match in matches for name in (match.first, match.second)}
    return TensorReport(
        tuple(sorted(found, key=_badness)),
        _without(pair.first, shared),
        _without(pair.second, shared),
        tuple(reshaped),
    )


def _without(model: ir.Model, shared: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in _computed(model) if name not in shared)


def _badness(row: TensorDifference) -> tuple[float, str]:
    return (-math.inf if math.isnan(row.snr_db) else row.snr_db, row.name)


# --- which tensors belong together ----------------------------------------------------------------


def activations(first: ir.Model, second: ir.Model) -> list[_Match]:
    """The floating-point tensors of both, in the order of the first model."""
    here, there = _computed(first), _computed(second)
    rounded: dict[str, str] = {}
    for name, value in there.items():
        source = before_rounding(value)
        if source is not None and source.const_value is None:
            rounded.setdefault(source.name or "", name)
    inputs = {v.name or "": v for v in first.graph.inputs}
    found = []
    for name, value in (*inputs.items(), *here.items()):
        node = value.producer()
        op = "input" if node is None else node.op_type
        if name in there and not (name in rounded and absorbed(value, there[name])):
            found.append(_Match("value", name, name, op))
        if name in rounded and rounded[name] not in here:  # else by that name, as a value
            found.append(_Match("rounded", name, rounded[name], op))
    return found


def _computed(model: ir.Model) -> dict[str, ir.Value]:
    """Name → value, of all floating-point tensors that nodes compute; stored weights are none."""
    return {
        value.name or "": value
        for node in model.graph
        if node.op_type != "QuantizeLinear"
        for value in node.outputs
        if value.name and value.dtype in _FLOATS and not stored_weight(value)
    }


def before_rounding(value: ir.Value | None) -> ir.Value | None:
    """What a DequantizeLinear that reads a QuantizeLinear stands for; None if it is no such."""
    back = None if value is None else value.producer()
    if back is None or back.op_type != "DequantizeLinear":
        return None
    there = None if back.inputs[0] is None else back.inputs[0].producer()
    return there.inputs[0] if there is not None and there.op_type == "QuantizeLinear" else None


def stored_weight(value: ir.Value | None) -> bool:
    """Whether a value comes from stored integers, or from a stored weight that is rounded."""
    back = None if value is None else value.producer()
    if back is None or back.op_type != "DequantizeLinear" or back.inputs[0] is None:
        return False
    source = before_rounding(value)
    return back.inputs[0].const_value is not None or (
        source is not None and source.const_value is not None
    )


def absorbed(value: ir.Value, other: ir.Value) -> bool:
    """Whether a value of one name is made by different operators in the two models."""
    nodes = (value.producer(), other.producer())
    return len({(n.domain, n.op_type) if n else None for n in nodes}) > 1


def layers_in_both(first: ir.Model, second: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Nodes of one operator and one name, or that give a tensor of one name."""
    by_name: dict[str | None, ir.Node] = {n.name: n for n in first.graph if n.name}
    by_output = {n.outputs[0].name: n for n in first.graph}
    for node in second.graph:
        for twin in (by_name.get(node.name), by_output.get(node.outputs[0].name)):
            if twin is not None and (twin.domain, twin.op_type) == (node.domain, node.op_type):
                yield twin, node
                break


# --- running --------------------------------------------------------------------------------------


def _groups(pair: Pair, matches: Sequence[_Match], seed: int) -> tuple[list[list[_Match]], int]:
    """Matches whose tensors fit into memory together, and the samples that run at a time."""
    feeds = next(pair.batches(1, seed))
    facts = facts_of(pair.first, {name: array.shape for name, array in feeds.items()})
    sizes = {value.name or "": _bytes(fact) for value, fact in facts.items()}
    known = [size for m in matches if (size := sizes.get(m.first))]
    most = max(known, default=_BYTES)  # an unknown size may be as much as any
    costs = [2 * (sizes.get(m.first) or most) for m in matches]
    groups: list[list[_Match]] = []
    room = 0
    for match, cost in zip(matches, costs, strict=True):
        if cost > room or not groups:
            groups.append([])
            room = _BYTES
        groups[-1].append(match)
        room -= cost
    return groups, int(np.clip(_BYTES // sum(costs), 1, _BATCH))


def _bytes(fact: Fact) -> int | None:
    if fact.shape is None or fact.dtype is None:
        return None
    return int(np.prod(fact.shape) * fact.dtype.itemsize)


def _streamed(
    pair: Pair, groups: Sequence[Sequence[_Match]], size: int, seed: int
) -> tuple[list[TensorDifference], list[str]]:
    found: list[TensorDifference] = []
    reshaped: list[str] = []
    with translated("the two models"):
        for group in groups:
            by_key = {match.key: match for match in group}
            sides = [
                runner(model, pair.inputs, list(dict.fromkeys(names)))
                for model, names in (
                    (pair.first, [m.first for m in group]),
                    (pair.second, [m.second for m in group]),
                )
            ]
            comparison = Comparison()
            for feeds, samples in pair.counted(size, seed):
                a, b = (run(feeds) for run in sides)
                for match in [m for m in by_key.values() if a[m.first].shape != b[m.second].shape]:
                    reshaped.append(match.first)
                    del by_key[match.key]
                comparison.add(
                    {key: a[m.first] for key, m in by_key.items()},
                    {key: b[m.second] for key, m in by_key.items()},
                    samples,
                )
            found += _named(comparison, by_key)
    return found, reshaped


def _named(comparison: Comparison, by_key: Mapping[str, _Match]) -> list[TensorDifference]:
    return [
        TensorDifference(**{**asdict(d), "name": match.first}, kind=match.kind, op=match.op)
        for d in comparison.result()
        if (match := by_key.get(d.name)) is not None
    ]


def _weights(pair: Pair) -> list[TensorDifference]:
    """Stored weights of layers that both models have."""
    found: dict[str, _Match] = {}
    for twin, node in layers_in_both(pair.first, pair.second):
        for mine, theirs in zip(twin.inputs, node.inputs, strict=False):
            if mine is None or mine.const_value is None or theirs is None:
                continue
            if stored_weight(theirs):
                match = _Match("weight", mine.name or "", theirs.name or "", node.op_type)
                found[match.key] = match
    values = dequantised(pair.second, [m.second for m in found.values()])
    comparison = Comparison()
    for key, match in found.items():
        array = _constant(pair.first, match.first)
        if array.shape == values[match.second].shape:
            comparison.add({key: array}, {key: values[match.second]}, 0)
    return _named(comparison, found)


def dequantised(model: ir.Model, names: Iterable[str]) -> Mapping[str, Array]:
    """What values that depend on no input stand for."""
    names = list(names)
    with translated("the second model"):
        return runner(model, [], names)({}) if names else {}


def _constant(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())
