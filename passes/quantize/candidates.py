"""Which products a target computes in integers, and why not the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir

from edgec.errors import UsageError
from edgec.graph.facts import Facts
from edgec.passes.quantize.placement import Reader, Weight
from edgec.passes.quantize.rules import QuantizeRules


def op_name(node: ir.Node) -> str:
    """``Op``, or ``domain::Op`` outside the default domain."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class InFloats(Exception):
    """Why a node stays in floats."""


@dataclass(frozen=True)
class Candidate:
    """A product that is computed in integers.

    Args:
        node: The node.
        activations: The inputs that are activations.
        weight: The initializer; None if both factors are activations.
        axis: The weight's axis of output channels; None: one scale for all.
    """

    node: ir.Node
    activations: tuple[int, ...]
    weight: ir.Value | None
    axis: int | None


def candidate(node: ir.Node, facts: Facts, rules: QuantizeRules, *, first: bool) -> Candidate:
    """The product as the target computes it in integers; `first`: no product lies before it.

    Raises:
        InFloats: it stays in floats.
    """
    x, w = node.inputs[0], node.inputs[1]
    if x is None or w is None:
        raise InFloats("an input is missing")
    for value in (x, w, node.outputs[0]):
        dtype = value.dtype if value not in facts else facts[value].dtype
        if dtype != ir.DataType.FLOAT:
            kind = "unknown" if dtype is None else dtype.name.lower()
            raise InFloats(f"the element type of '{value.name}' is {kind}, not float32")
    if x.const_value is not None:
        raise InFloats("its first factor is a constant")
    if w.const_value is None or not w.is_initializer() or w.is_graph_input():
        if node.op_type != "MatMul":
            raise InFloats("its weight is computed")
        if not rules.two_activations:
            raise InFloats("it multiplies two activations")
        _check_matrices(_shape(facts, x), _shape(facts, w), rules)
        return Candidate(node, (0, 1), None, None)
    _check_bias(node, rules)
    shape = tuple(w.const_value.shape.numpy())
    if node.op_type in ("Conv", "ConvTranspose"):
        _check_kernel(node, shape, rules, thin=first and rules.thin_first)
    else:
        if node.op_type == "Gemm":
            shape = shape[::-1] if node.attributes.get_int("transB", 0) else shape
        rows = _shape(facts, x)
        _check_matrices(rows[::-1] if node.attributes.get_int("transA", 0) else rows, shape, rules)
    return Candidate(node, (0,), w, _axis(node, len(shape)))


def _axis(node: ir.Node, rank: int) -> int | None:
    if node.op_type == "ConvTranspose":  # W[(g,i), o, k…]: o of every group would share a scale
        return 1 if node.attributes.get_int("group", 1) == 1 else None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if rank == 2 else None


def _shape(facts: Facts, value: ir.Value) -> tuple[int, ...]:
    shape = facts[value].shape if value in facts else None
    if shape is None:
        raise InFloats(f"the shape of '{value.name}' is unknown")
    return shape


def _check_bias(node: ir.Node, rules: QuantizeRules) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if node.attributes.get_float("alpha", 1.0) != 1.0:
        raise InFloats("it scales its product")
    if bias is not None and node.attributes.get_float("beta", 1.0) != 1.0:
        raise InFloats("it scales its bias")
    if not rules.bias or bias is None:
        return
    if bias.const_value is None or len(bias.const_value.shape) != 1:
        raise InFloats("its bias is not one number per output")


def _check_matrices(a: Sequence[int], b: Sequence[int], rules: QuantizeRules) -> None:
    """a[…, M, K] · b[…, K, N]."""
    if len(a) < 2 or len(b) < 2:
        raise InFloats("it multiplies by a vector")
    rows = a[-2]
    if len(b) == 2:
        for size in a[:-2]:
            rows *= size
    if rows < rules.min_rows or b[-1] < rules.min_rows:
        raise InFloats("it is a matrix times a vector")
    _check_channels(a[-1], b[-1], rules)


def _check_channels(inputs: int, outputs: int, rules: QuantizeRules, *, thin: bool = False) -> None:
    if min(outputs, outputs if thin else inputs) < rules.min_channels:
        raise InFloats(f"{inputs} → {outputs} channels: fewer than {rules.min_channels}")


def _check_kernel(node: ir.Node, shape: Sequence[int], rules: QuantizeRules, *, thin: bool) -> None:
    group = node.attributes.get_int("group", 1)
    outputs, inputs = shape[0], shape[1] * group
    if node.op_type == "ConvTranspose":
        outputs, inputs = inputs, outputs
    kernel, multiple = shape[2:], rules.channel_multiple
    if group > 1 and shape[1] == 1 and not rules.depthwise:
        raise InFloats("depthwise")
    _check_channels(inputs, outputs, rules, thin=thin)
    if rules.square_kernels and len(set(kernel)) > 1:
        raise InFloats(f"its kernel is {'x'.join(map(str, kernel))}, not square")
    if group > 1 and min(kernel) < rules.grouped_kernel:
        raise InFloats(f"grouped, with a kernel below {rules.grouped_kernel}")
    if outputs % multiple and (group > 1 or inputs % multiple):
        raise InFloats(f"{inputs} → {outputs} channels: no multiple of {multiple}")


def candidates(
    nodes: Sequence[ir.Node],
    facts: Facts,
    rules: QuantizeRules,
    include: Sequence[str],
    exclude: Sequence[str],
) -> tuple[dict[ir.Node, Candidate], dict[ir.Node, str]]:
    """The products in integers, and all others with the reason.

    Args:
        nodes: Those of the main graph, in topological order.
        facts: What is known of the values, for concrete input sizes.
        rules: The target's.
        include, exclude: Patterns of node names.

    Raises:
        UsageError: a pattern matches no product and, if it excludes, no follower.
    """
    products = [n for n in nodes if op_name(n) in PRODUCTS]
    floats = dict(_named(nodes, products, rules, include, exclude))
    found: dict[ir.Node, Candidate] = {}
    first, last = _ends(nodes, products)
    for node in products:
        try:
            if node in floats:
                continue
            if op_name(node) not in rules.products:
                raise InFloats("the target has no integer kernel for it")
            if rules.keep_first and node in first:
                raise InFloats("the first product")
            if rules.keep_last and node in last:
                raise InFloats("the last product")
            found[node] = candidate(node, facts, rules, first=node in first)
        except InFloats as reason:
            floats[node] = str(reason)
    for node, why in list(_sharing(found)):
        floats[node] = why
        del found[node]
    return found, floats


def _named(
    nodes: Sequence[ir.Node],
    products: Sequence[ir.Node],
    rules: QuantizeRules,
    include: Sequence[str],
    exclude: Sequence[str],
) -> Iterator[tuple[ir.Node, str]]:
    """Nodes that the user keeps in floats."""
    others = [n for n in nodes if op_name(n) in (*rules.followers, *rules.carriers)]
    for option, patterns, among in (
        ("--include", include, products),
        ("--keep-float", exclude, [*products, *others]),
    ):
        for pattern in patterns:
            if not any(fnmatchcase(n.name or "", pattern) for n in among):
                shown = ", ".join(n.name or "" for n in products[:6])
                more = ", …" if len(products) > 6 else ""
                raise UsageError(
                    f"{option} {pattern or repr(pattern)}",
                    "matches no node that could be quantised",
                    f"products: {shown or 'none'}{more}",
                )
    for node in (*products, *others):
        if any(fnmatchcase(node.name or "", p) for p in exclude):
            yield node, "kept by --keep-float"
    for node in products:
        if include and not any(fnmatchcase(node.name or "", p) for p in include):
            yield node, "not named by --include"


def _ends(
    nodes: Sequence[ir.Node], products: Sequence[ir.Node]
) -> tuple[set[ir.Node], set[ir.Node]]:
    """The products that no other product lies before, and those that none lies behind."""
    inside = set(products)
    behind: set[ir.Node] = set()  # nodes that a product lies before
    for node in nodes:
        if any(p in behind or p in inside for p in node.predecessors()):
            behind.add(node)
    before: set[ir.Node] = set()
    for node in reversed(nodes):
        if any(s in before or s in inside for s in node.successors()):
            before.add(node)
    return inside - behind, inside - before


def _sharing(found: dict[ir.Node, Candidate]) -> Iterator[tuple[ir.Node, str]]:
    """Products whose weight is read in another way too."""
    for node, product in found.items():
        for other, i in () if product.weight is None else product.weight.uses():
            same = found.get(other)
            if same is None or i != 1 or same.weight is not product.weight:
                yield node, f"'{other.name}' reads its weight too"
                break
            if same.axis != product.axis:
                yield node, f"'{other.name}' reads its weight along another axis"
                break


def weights_of(found: dict[ir.Node, Candidate], bits: int) -> tuple[Weight, ...]:
    """The weights that products in integers read."""
    readers: dict[ir.Value, list[Reader]] = {}
    axes: dict[ir.Value, int | None] = {}
    for node, product in found.items():
        if product.weight is not None:
            readers.setdefault(product.weight, []).append((node.name or "", 1))
            axes[product.weight] = product.axis
    return tuple(
        Weight(value.name or "", tuple(who), axes[value], bits) for value, who in readers.items()
    )
