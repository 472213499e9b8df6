"""Where Q/DQ goes in a graph, by the rules of a target.

Products ask for grids on what they read. A follower, or a carrier, asks too if all that it reads
comes from integer kernels or is on a grid anyway, and if someone behind it asks for what it makes:
so no pair of Q and DQ stands alone between float operators. Which of them do is the greatest set
that holds this: all are taken, and those that fall out make others fall, until none does.

A *tail* is where an integer kernel ends: its node's output, or that of the last of the epilogues
that it takes along. Nothing is placed inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from edgec.graph.facts import Facts, facts_of
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from edgec.passes.names import NameNodes
from edgec.passes.quantize.candidates import PRODUCTS, Candidate, candidates, op_name, weights_of
from edgec.passes.quantize.placement import Placement, Point, Reader
from edgec.passes.quantize.rules import QuantizeRules


def place(
    model: ir.Model,
    rules: QuantizeRules,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Placement:
    """Decide what is quantised.

    Args:
        model: A model whose constants and BatchNorms are folded. Nodes without a name of their
            own get one; nothing else changes.
        rules: The target's.
        include: Patterns of names; if given, all other products stay in floats.
        exclude: Patterns of names of products, followers and carriers that stay in floats.

    Raises:
        UsageError: a pattern matches nothing; an input's size is open.
    """
    NameNodes()(model, Context())
    nodes = list(model.graph)
    facts = facts_of(model, input_shapes(model))
    products, floats = candidates(nodes, facts, rules, include, exclude)
    return _Placing(nodes, facts, rules, products, floats).placement()


def bias_add(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The Add behind a MatMul that adds its bias, and the input where it reads it."""
    made = node.outputs[0]
    if node.op_type != "MatMul" or node.domain or made.is_graph_output() or len(made.uses()) != 1:
        return None
    ((add, i),) = made.uses()
    if add.op_type != "Add" or add.domain or add.graph is not node.graph:
        return None
    bias = add.inputs[1 - i]
    if bias is None or bias.const_value is None or not bias.is_initializer():
        return None
    return (add, 1 - i) if len(bias.const_value.shape) == 1 else None


_FIRST = ("Resize", "Upsample")
"""Operators whose other inputs are settings, some of them floats."""


class _Placing:
    def __init__(
        self,
        nodes: Sequence[ir.Node],
        facts: Facts,
        rules: QuantizeRules,
        products: dict[ir.Node, Candidate],
        floats: dict[ir.Node, str],
    ) -> None:
        self.nodes, self.facts, self.rules = nodes, facts, rules
        self.products, self.floats = products, floats
        self.position = {node: i for i, node in enumerate(nodes)}
        self.adds = {found[0] for p in products if (found := bias_add(p)) is not None}
        self.read = {p.inputs[i] for p, c in products.items() for i in c.activations}
        self.active: set[ir.Node] = set()
        for node in nodes:
            if node not in products and node not in floats and self._is_movable(node):
                self._admit(node)
        self.tails: dict[ir.Value, ir.Node] = {}  # value → the node whose kernel ends there
        self.main: dict[ir.Node, int] = {}  # residual Add → the input that is its product's

    def placement(self) -> Placement:
        """Everything that is decided."""
        count = -1
        while count != len(self.active):
            count = len(self.active)
            self._forward()
            wanted = self._backward()
        points = tuple(self._points(wanted))
        return Placement(
            points,
            weights_of(self.products, self.rules.weights.bits),
            self._tied({p.value for p in points}),
            {n.name or "": w for n, w in self.floats.items() if self._is_worth_a_word(n)},
            self.rules,
        )

    def _is_worth_a_word(self, node: ir.Node) -> bool:
        return op_name(node) in (*PRODUCTS, *self.rules.followers)

    def _is_movable(self, node: ir.Node) -> bool:
        op = op_name(node)
        if node in self.adds:
            return False
        residual = op == "Add" and self.rules.residual == "shortcut"
        return residual or op in self.rules.followers or op in self.rules.carriers

    def _admit(self, node: ir.Node) -> None:
        """Takes a follower, carrier or residual Add, unless its inputs or attributes forbid it."""
        values = self._data(node)
        nearest = node.attributes.get_string("mode", "nearest") == "nearest"
        if any(v.const_value is not None for v in values):
            self.floats[node] = "it reads a constant"
        elif any(self._dtype(v) != ir.DataType.FLOAT for v in (*values, *node.outputs)):
            self.floats[node] = "its element type is not float32"
        elif op_name(node) in self.rules.carriers and op_name(node) == "Resize" and not nearest:
            self.floats[node] = "it computes new numbers"
        else:
            self.active.add(node)

    def _drop(self, node: ir.Node, why: str) -> None:
        self.active.remove(node)
        self.floats[node] = why

    def _dtype(self, value: ir.Value) -> ir.DataType | None:
        return self.facts[value].dtype if value in self.facts else value.dtype

    def _shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        return self.facts[value].shape if value in self.facts else None

    def _data(self, node: ir.Node) -> list[ir.Value]:
        """The inputs whose numbers go through: the first of a carrier, all of a follower."""
        first = op_name(node) in (*self.rules.carriers, *_FIRST)
        return [v for v in (node.inputs[:1] if first else node.inputs) if v is not None]

    def _reads(self, node: ir.Node) -> list[ir.Value]:
        """What an active node asks grids for."""
        return [v for i, v in enumerate(self._data(node)) if self.main.get(node) != i]

    def _alone(self, value: ir.Value) -> bool:
        """Whether one node of the main graph, and nothing else, reads a value."""
        nodes = [node for node, _ in value.uses()]
        return len(nodes) == 1 and nodes[0] in self.position and not value.is_graph_output()

    def _forward(self) -> None:
        """Finds the tails; drops what reads a value that is on no grid."""
        self.tails, self.main = {}, {}
        ready = {v for v in self.read if v is not None}
        for node in self.nodes:
            op = op_name(node)
            before = self._continued(node)
            if node in self.active and not all(v in ready for v in self._reads(node)):
                self._drop(node, "not all that it reads comes from integers")
                before = None
            kernel = node in self.products or (
                node in self.active and op not in self.rules.carriers
            )
            if before is not None:
                self.tails[node.outputs[0]] = self.tails.pop(before)
            elif kernel:
                self.tails[node.outputs[0]] = node
            elif node not in self.active and not (
                op in self.rules.passed and node.inputs[0] in ready
            ):
                continue
            ready |= set(node.outputs)

    def _continued(self, node: ir.Node) -> ir.Value | None:
        """The tail that a node reads and its kernel takes on, to the node's own output."""
        op, shape = op_name(node), self._shape(node.outputs[0])
        ends = {
            i: v
            for i, v in enumerate(node.inputs)
            if v is not None and v in self.tails and self._alone(v)
        }
        if node in self.adds:
            return next(iter(ends.values()), None)
        if op in self.rules.epilogues:
            return ends.get(0)
        if op != "Add" or self.rules.residual != "shortcut" or node not in self.active:
            return None
        roots = {i: self.tails[v] for i, v in ends.items() if self._shape(v) == shape}
        sums = [i for i, root in roots.items() if root in self.products]
        if not sums:
            return None
        # Of two products the one that is computed last takes the other's output along.
        self.main[node] = max(sums, key=lambda i: self.position[roots[i]])
        return ends[self.main[node]]

    def _backward(self) -> dict[ir.Value, list[Reader]]:
        """Who asks for a grid on which value; drops what makes numbers that nobody asks for."""
        ends = {root: value for value, root in self.tails.items()}
        wanted: dict[ir.Value, list[Reader]] = {}
        through: set[ir.Value] = set()  # wanted behind operators that let Q/DQ pass
        for node in reversed(self.nodes):
            op = op_name(node)
            if node in self.active and node not in self.main and op not in self.rules.float_outputs:
                made = node.outputs if op in self.rules.carriers else [ends[node]]
                if not any(v in wanted or v in through for v in made):
                    self._drop(node, "nothing that reads it computes in integers")
            for value, i in self._asks(node):
                wanted.setdefault(value, []).append((node.name or "", i))
            if op in self.rules.passed and any(v in wanted or v in through for v in node.outputs):
                through |= {v for v in node.inputs[:1] if v is not None}
        return wanted

    def _asks(self, node: ir.Node) -> Iterator[tuple[ir.Value, int]]:
        """What a node in integers wants grids for, and at which inputs it reads it."""
        if node in self.products:
            for i in self.products[node].activations:
                value = node.inputs[i]
                if value is not None:
                    yield value, i
        elif node in self.active:
            reads = set(self._reads(node))
            yield from ((v, i) for i, v in enumerate(node.inputs) if v in reads)

    def _points(self, wanted: dict[ir.Value, list[Reader]]) -> Iterator[Point]:
        """The grids: where they are asked for, and behind kernels that give integers only."""
        forced = {
            v
            for v, root in self.tails.items()
            if root in self.products and op_name(root) not in self.rules.float_outputs
        }
        made = set(self.tails)
        for node in self.active:
            if op_name(node) in self.rules.carriers:
                made |= set(node.outputs)
                forced |= set(node.outputs)
        order = [*self._inputs(), *(v for n in self.nodes for v in n.outputs)]
        for value in order:
            if value not in wanted and value not in forced:
                continue
            # What an integer kernel makes is there as integers only: all read what comes back.
            readers = wanted.get(value, [])
            if value in made:
                readers = [(n.name or "", i) for n, i in value.uses() if n in self.position]
            yield Point(
                value.name or "",
                tuple(sorted(readers)),
                value in made and value.is_graph_output(),
            )

    def _inputs(self) -> list[ir.Value]:
        graph = self.nodes[0].graph if self.nodes else None
        return [] if graph is None else list(graph.inputs)

    def _tied(self, placed: set[str]) -> tuple[frozenset[str], ...]:
        """Sets of placed values that share a grid: joined by tied operators and carriers."""
        root: dict[str, str] = {}

        def find(name: str) -> str:
            while root.setdefault(name, name) != name:
                name = root[name]
            return name

        for node in self.active:
            op = op_name(node)
            if op not in (*self.rules.tied, *self.rules.carriers):
                continue
            names = [v.name or "" for v in (*self._data(node), *node.outputs)]
            first, *rest = [n for n in names if n in placed] or [""]
            for name in rest:
                root[find(name)] = find(first)
        sets: dict[str, set[str]] = {}
        for name in root:
            sets.setdefault(find(name), set()).add(name)
        found = (frozenset(s) for s in sets.values() if len(s) > 1)
        return tuple(sorted(found, key=sorted))
