"""What a graph must be before anything else looks at it: no weight is read here.

ONNX's own checker is C++ that was not written for hostile files; these checks are Python.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from edgec.errors import UnsupportedError, UsageError
from edgec.graph.nodes import graphs_of
from edgec.model_proto import limit_nodes, once

OPSETS = range(9, 26)
_BLOCKED = "com.microsoft.nchwc"


def describe(node: ir.Node) -> str:
    """A name for `node` that a reader of the file can find."""
    if node.name:
        return f"node '{node.name}' ({node.op_type})"
    made = next((output.name for output in node.outputs if output.name), None)
    return f"the {node.op_type} that makes '{made}'" if made else f"a nameless {node.op_type}"


def check_call_tree(model: ir.Model, subject: str) -> None:
    """Refuse functions that call one another in a ring, or that inline to too many nodes."""
    calls = {
        name: Counter(
            node.op_identifier()
            for node in function.all_nodes()
            if node.op_identifier() in model.functions
        )
        for name, function in model.functions.items()
    }
    try:
        order = list(graphlib.TopologicalSorter(calls).static_order())
    except graphlib.CycleError as error:
        ring = " → ".join(name for _, name, _ in error.args[1])
        raise UsageError(
            subject, f"its functions call one another: {ring}", "export the model again"
        ) from error
    sizes: dict[ir.OperatorIdentifier, int] = {}
    for name in order:
        own = sum(1 for _ in model.functions[name].all_nodes())
        sizes[name] = own + sum(sizes[callee] * n for callee, n in calls[name].items())
    limit_nodes(
        sum(sizes.get(node.op_identifier(), 1) for node in model.graph.all_nodes()), subject
    )


def check_graph(model: ir.Model, subject: str) -> None:
    """Check everything but the weights; sort the nodes if the file lists them out of order.

    Raises:
        UsageError: The graph is malformed; the message names the value or node.
        UnsupportedError: The operator set is outside 9–25, or channels lie in blocks.
    """
    _check_opset(model, subject)
    _check_inputs(model.graph, subject)
    nodes, graphs = 0, [model.graph]
    while graphs:
        graph = graphs.pop()
        nodes += len(graph)
        limit_nodes(nodes, subject)
        if not graph.outputs:
            which = "the graph" if graph is model.graph else f"the inner graph '{graph.name}'"
            raise UsageError(subject, f"{which} has no outputs", "name what it is to compute")
        _check_names(graph, subject)
        for node in graph:
            _check_node(node, subject)
            if node.domain not in model.opset_imports:
                raise UsageError(
                    subject,
                    f"{describe(node)} is of the domain '{node.domain}', which is not imported",
                    "add it to the model's opset_import, or export the model again",
                )
            graphs.extend(graphs_of(node))
    if _first_unordered(model.graph, set(), subject) is not None:
        _check_acyclic(model, subject)
        model.graph.sort()
        if (stray := _first_unordered(model.graph, set(), subject)) is not None:
            node, value = stray
            raise UsageError(
                subject,
                f"{describe(node)} reads '{value.name}', which belongs to another graph",
                "export the model again",
            )


def _check_opset(model: ir.Model, subject: str) -> None:
    version = model.opset_imports.get("")
    if version is None:
        raise UsageError(
            subject, "does not import the ONNX operator set", "export a neural network to ONNX"
        )
    if version not in OPSETS:
        raise UnsupportedError(
            subject,
            f"operator set {version} is outside {OPSETS[0]}–{OPSETS[-1]}",
            "export it with opset 17, or convert it: onnx.version_converter.convert_version(m, 17)",
        )


def _check_inputs(graph: ir.Graph, subject: str) -> None:
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int) and dim < 1:
                raise UsageError(
                    subject,
                    f"axis {axis} of input '{value.name}' has size {dim}",
                    "give the axis a size of at least 1, or a name if it varies",
                )


def _check_names(graph: ir.Graph, subject: str) -> None:
    made = [value.name for node in graph for value in node.outputs if value.name]
    inputs = set(graph.inputs)
    weights = [v.name for v in graph.initializers.values() if v not in inputs]
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        if not value.name:
            raise UsageError(subject, "a graph input, output or weight has no name", "name it")
    once([*(v.name for v in graph.inputs), *weights, *made], "value", subject)
    once([v.name for v in graph.outputs], "graph output", subject)


def _check_node(node: ir.Node, subject: str) -> None:
    if not node.op_type:
        raise UsageError(subject, f"{describe(node)} names no operator", "export the model again")
    if node.domain == _BLOCKED:
        raise UnsupportedError(
            subject,
            f"{describe(node)} has its channels in blocks, as ONNX Runtime lays them out for a CPU",
            "give the original, or what is saved at ORT_ENABLE_EXTENDED in place of ORT_ENABLE_ALL",
        )
    for attribute in node.attributes.values():
        if attribute.is_ref() or attribute.type == ir.AttributeType.UNDEFINED:
            why = "refers to a function's attribute" if attribute.is_ref() else "has no type"
            raise UsageError(
                subject,
                f"attribute '{attribute.name}' of {describe(node)} {why}",
                "export the model again",
            )


def _first_unordered(
    graph: ir.Graph, visible: set[ir.Value], subject: str
) -> tuple[ir.Node, ir.Value] | None:
    """The first node, in depth, that reads a value before it is made; None if all is in order.

    Args:
        visible: What the enclosing graphs have made so far; unchanged afterwards.

    Raises:
        UsageError: A value has no producer at all.
    """
    before = set(visible)
    visible |= set(graph.inputs) | set(graph.initializers.values())
    try:
        for node in graph:
            for value in node.inputs:
                if value is None or value in visible:
                    continue
                if value.producer() is None:
                    _dangling(f"{describe(node)} reads '{value.name}'", subject)
                return node, value
            for inner in graphs_of(node):
                if (found := _first_unordered(inner, visible, subject)) is not None:
                    return found
            visible.update(node.outputs)
        for value in graph.outputs:
            if value not in visible:
                _dangling(f"the graph's output is '{value.name}'", subject)
        return None
    finally:
        visible &= before


def _dangling(reader: str, subject: str) -> None:
    raise UsageError(subject, f"{reader}, which nothing produces", "export the model again")


def _check_acyclic(model: ir.Model, subject: str) -> None:
    for graph in model.graphs():
        edges = {node: [p for p in _producers(node) if p.graph is graph] for node in graph}
        try:
            graphlib.TopologicalSorter(edges).prepare()
        except graphlib.CycleError as error:
            ring = error.args[1]
            names = " → ".join(describe(node) for node in ring[:6])
            raise UsageError(
                subject,
                f"the graph has a cycle: {names}" + (" → …" if len(ring) > 6 else ""),
                "ONNX graphs run forward only: unroll the recurrence, or use Loop or Scan",
            ) from error


def _producers(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes whose outputs `node`, or a graph inside it, reads."""
    for value in node.inputs:
        if value is not None and (producer := value.producer()) is not None:
            yield producer
    for graph in graphs_of(node):
        for inner in graph:
            yield from _producers(inner)
