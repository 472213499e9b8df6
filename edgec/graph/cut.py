"""Really removes channels: slices initializers, derives every dependent constant afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.errors import EdgecError, UsageError
from edgec.graph.channels import ChannelGroups
from edgec.graph.facts import Facts, facts_of
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.graph.trace import title
from edgec.graph.widths import Line, Mask, lines_of, new_shape
from edgec.model import copied
from edgec.ops import rule_for
from edgec.ops.repairing import RepairContext
from edgec.ops.tracing import Use
from edgec.ops.view import Barrier, Fact


@dataclass(frozen=True)
class CutResult:
    """A cut model and where it came from.

    Attributes:
        model: The smaller model.
        groups: The analysis of the original.
        alive: bool[units], the units that were kept.
        uses: The original's uses of initializers with the name each got in the cut model.
    """

    model: ir.Model
    groups: ChannelGroups
    alive: Mask
    uses: tuple[tuple[Use, str], ...]


class CutError(EdgecError):
    """The cut graph is not what was predicted: a defect in a rule, never shipped.

    Args:
        node: The node that is not as predicted.
        fact: How.
    """

    exit_code = 7

    def __init__(self, node: ir.Node, fact: str) -> None:
        super().__init__(
            title(node),
            fact,
            f"nothing was written; this is a defect of edgec's rule for {node.op_type}, please "
            "report the model;\nuntil then --exclude the groups around this node "
            "('edgec inspect' lists them)",
        )


def remove_channels(groups: ChannelGroups, removed: Sequence[int] | NDArray[np.int64]) -> CutResult:
    """Removes units of channels from a copy of the analysed model.

    Args:
        groups: The analysis (`channel_groups(model)`).
        removed: Units to remove, as numbered in `groups`; every row of a group must lose the
            same number of units.

    Raises:
        UsageError: A unit is pinned or does not exist, or rows would keep unequal counts, or
            nothing is left.
    """
    units = np.asarray(removed, np.int64)
    if units.size and not 0 <= units.min() <= units.max() < groups.units:
        wrong = units[(units < 0) | (units >= groups.units)][0]
        raise UsageError(f"unit {wrong}", "does not exist", f"units are 0 … {groups.units - 1}")
    alive = np.ones(groups.units, bool)
    alive[units] = False
    _check(groups, alive)
    return _Cut(groups, alive).run()


def _check(groups: ChannelGroups, alive: Mask) -> None:
    free = np.zeros(groups.units, bool)
    for group in groups:
        free[group.units] = True
        lost = np.bincount(group.cells[~alive[group.units]], minlength=group.rows)
        if (lost != lost[0]).any():
            raise UsageError(
                group.name,
                f"its {group.rows} rows would lose {lost.tolist()} channels",
                "remove the same number from every row",
            )
        if lost[0] >= group.depth:
            raise UsageError(group.name, "would lose all its channels", "keep at least one")
    if (~alive & ~free).any():
        unit = int(np.flatnonzero(~alive & ~free)[0])
        raise UsageError(f"unit {unit}", "is pinned", "see channel_groups(model).pinned")


class _Cut:
    def __init__(self, groups: ChannelGroups, alive: Mask) -> None:
        self.groups, self.alive = groups, alive
        source = groups.model
        self.model = copied(source)
        self.old_nodes = list(source.graph)
        self.new_nodes = list(self.model.graph)
        self.new_of = dict(zip(self.old_nodes, self.new_nodes, strict=True))
        self.lines: dict[ir.Value, tuple[Line, ...]] = {}
        self.shapes: dict[ir.Value, tuple[int, ...] | None] = {}
        self.idle = {name for name, v in source.graph.initializers.items() if not v.uses()}
        self.names = Names(self.model.graph)

    def run(self) -> CutResult:
        uses = self.slice_initializers()
        for old, new in zip(self.old_nodes, self.new_nodes, strict=True):
            self.repair(old, new)
        self.drop_unused()
        self.restate_shapes()
        self.check_shapes()
        return CutResult(self.model, self.groups, self.alive, uses)

    # --- initializers

    def slice_initializers(self) -> tuple[tuple[Use, str], ...]:
        """Gives every use its slice; uses that are cut alike share it, and so its name."""
        cuts = [(use, self.losing(use)) for use in self.groups.trace.uses]
        for use, lines in cuts:  # first all readers let go, so that the old names are free
            if lines:
                self.new_of[use.node].replace_input_with(use.index, None)
        made: dict[tuple[object, ...], ir.Value] = {}
        names = []
        for use, lines in cuts:
            value, node = use.node.inputs[use.index], self.new_of[use.node]
            assert value is not None
            assert value.const_value is not None
            if lines:
                key = (value, *((line.axis, line.units.tobytes()) for line in lines))
                if key not in made:
                    made[key] = self.renewed(cut_tensor(value.const_value, lines, self.alive))
                node.replace_input_with(use.index, made[key])
            names.append((use, node.inputs[use.index].name or ""))  # type: ignore[union-attr]
        return tuple(names)

    def losing(self, use: Use) -> tuple[Line, ...]:
        """The lines of an initializer, as one node uses it, that lose something."""
        value = use.node.inputs[use.index]
        assert value is not None
        shape = self.groups.facts[value].shape or ()
        lines = lines_of(use.labels, self.groups.unit_of, shape)
        return tuple(line for line in lines if not line.kept(self.alive).all())

    def renewed(self, tensor: ir.TensorProtocol) -> ir.Value:
        """An initializer in the place of its namesake; under another name while that is read."""
        like = tensor.name or "w"
        old = self.model.graph.initializers.get(like)
        if old is None or old.uses() or old.is_graph_output() or old.is_graph_input():
            tensor.name = self.names.fresh(like)
        else:
            del self.model.graph.initializers[like]
        return add_initializer(self.model.graph, tensor)

    def drop_unused(self) -> None:
        """Drops initializers that the cut left without a reader; what had none before stays."""
        graph = self.model.graph
        for name, value in list(graph.initializers.items()):
            held = value.uses() or value.is_graph_output() or value.is_graph_input()
            if not held and name not in self.idle:
                del graph.initializers[name]

    # --- repairs

    def value_lines(self, value: ir.Value) -> tuple[Line, ...]:
        if value not in self.lines:
            shape = self.groups.facts.get(value, Fact()).shape
            labels = self.groups.trace.labels.get(value, ())
            self.lines[value] = (
                () if shape is None else lines_of(labels, self.groups.unit_of, shape)
            )
        return self.lines[value]

    def new_shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if value not in self.shapes:
            shape = self.groups.facts.get(value, Fact()).shape
            self.shapes[value] = (
                None if shape is None else new_shape(shape, self.value_lines(value), self.alive)
            )
        return self.shapes[value]

    def positions(self, value: ir.Value | None, axis: int) -> Mask:
        assert value is not None
        for line in self.value_lines(value):
            if line.axis == axis:
                return line.positions(self.alive)
        shape = self.groups.facts[value].shape
        assert shape is not None
        return np.ones(shape[axis], bool)

    def repair(self, old: ir.Node, new: ir.Node) -> None:
        rule = rule_for(old.domain, old.op_type)
        if rule is None:
            return
        facts = self.groups.facts
        x = [None if v is None else facts.get(v, Fact()) for v in old.inputs]
        y = [facts.get(v, Fact()) for v in old.outputs]
        new_x = [
            tuple(v.const_value.shape.numpy()) if v is not None and v.const_value is not None
            else self.new_shape(o)
            for v, o in zip(new.inputs, old.inputs, strict=True)
        ]  # fmt: skip
        new_y = [self.new_shape(v) for v in old.outputs]
        unchanged = all(a is None or a.shape == b for a, b in zip(x, new_x, strict=True)) and all(
            a.shape == b for a, b in zip(y, new_y, strict=True)
        )
        if unchanged:
            return
        context = RepairContext(
            new, x, y, new_x, new_y,
            lambda i, axis: self.positions(old.inputs[i], axis),
            lambda i, axis: self.positions(old.outputs[i], axis),
            self,
        )  # fmt: skip
        try:
            rule.repair(context)
        except Barrier as barrier:
            raise CutError(old, f"cannot be adapted to the cut: {barrier}") from barrier
        for count in self.groups.trace.counts.get(old, ()):
            lines = lines_of(count.labels, self.groups.unit_of, count.shape)
            size = new_shape(count.shape, lines, self.alive)[count.axis]
            if size != count.shape[count.axis]:
                context.set_int(count.name, size)

    # --- the Editor that repairs use

    def constant(self, value: NDArray[Any]) -> ir.Value:
        name = self.names.fresh("edgec.const")
        tensor = ir.Tensor(np.asarray(value, order="C"), name=name)
        return add_initializer(self.model.graph, tensor)

    def insert(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]
    ) -> ir.Value:
        name = self.names.fresh(f"{node.name or node.op_type}/{op}")
        made = ir.node(op, inputs, dict(attributes), name=name)
        made.outputs[0].name = name
        node.graph.insert_before(node, made)  # type: ignore[union-attr]
        return made.outputs[0]

    def replace(self, node: ir.Node, value: ir.Value) -> None:
        old = node.outputs[0]
        name, value.type = old.name, old.type
        if old.is_graph_output():
            value.shape = old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        node.graph.remove(node, safe=True)  # type: ignore[union-attr]
        value.name = name

    # --- the outcome

    def restate_shapes(self) -> None:
        """Writes the new sizes into the declared shapes; symbolic dimensions stay symbolic."""
        old_values = [v for node in self.old_nodes for v in node.outputs]
        new_values = [v for node in self.new_nodes for v in node.outputs]
        for old, new in zip(old_values, new_values, strict=True):
            before, after = self.groups.facts.get(old, Fact()).shape, self.new_shape(old)
            if new.shape is None or before is None or after is None or before == after:
                continue
            dims = [d if b == a else a for d, b, a in zip(new.shape, before, after, strict=True)]
            new.shape = ir.Shape(dims)

    def check_shapes(self) -> None:
        """Every tensor of the cut model has the predicted size, as ONNX's own inference sees it."""
        shapes = {
            v.name or "": self.groups.facts[v].shape or () for v in self.groups.model.graph.inputs
        }
        facts: Facts = facts_of(self.model, shapes)
        for old, new in zip(self.old_nodes, self.new_nodes, strict=True):
            for was, now in zip(old.outputs, new.outputs, strict=True):
                predicted, found = self.new_shape(was), facts.get(now, Fact()).shape
                if now in facts and predicted != found:
                    raise CutError(old, f"was to have shape {predicted} after the cut, has {found}")


def cut_tensor(tensor: ir.TensorProtocol, lines: Sequence[Line], alive: Mask) -> ir.LazyTensor:
    """An initializer cut to what is kept, made anew at each reading: never all at once."""
    cuts = [(line, line.indices(alive)) for line in lines]
    shape = list(tensor.shape.numpy())
    for line, indices in cuts:
        shape[line.axis] = indices.shape[line.axis]

    def values() -> ir.TensorProtocol:
        data = _take(tensor.numpy(), cuts)
        return ir.Tensor(np.asarray(data, order="C"), dtype=tensor.dtype, name=tensor.name)

    return ir.LazyTensor(values, tensor.dtype, ir.Shape(shape), name=tensor.name)


def cut_array(data: NDArray[Any], lines: Sequence[Line], alive: Mask) -> NDArray[Any]:
    """An array cut to what is kept."""
    return _take(data, [(line, line.indices(alive)) for line in lines])


def _take(data: NDArray[Any], cuts: Sequence[tuple[Line, NDArray[np.int64]]]) -> NDArray[Any]:
    """Slices along lines: ragged ones first, as their rows are counted before the cut."""
    for line, indices in cuts:
        if indices.size == indices.shape[line.axis]:
            data = np.take(data, indices.ravel(), line.axis)
        else:
            shape = list(data.shape)
            shape[line.axis] = indices.shape[line.axis]
            wide = [
                indices.shape[a] if a in line.rows or a == line.axis else 1
                for a in range(data.ndim)
            ]
            data = np.take_along_axis(
                data, np.broadcast_to(indices.reshape(wide), shape), line.axis
            )
    return data
