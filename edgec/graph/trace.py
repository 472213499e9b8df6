"""Runs a graph on channel labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from edgec.graph.deadline import walk
from edgec.graph.facts import Facts
from edgec.graph.nodes import graphs_of, runs_graphs
from edgec.ops import rule_for
from edgec.ops.tracing import Freedom, LabelContext, Trace
from edgec.ops.view import Barrier, Fact


def trace_labels(model: ir.Model, facts: Facts, freedom: Freedom) -> Trace:
    """Labels of every value; ties, pins and boxes with their reasons.

    A node without a rule, or one that its rule cannot follow, pins every channel that reaches it.
    Which of several splits makes the heads is seen only when all are known; so where heads go whole
    the graph is walked twice.
    """
    trace = _traced(model, facts, freedom, ())
    return _traced(model, facts, freedom, _heads(trace)) if freedom.drop_heads else trace


def _heads(trace: Trace) -> set[tuple[ir.Node, int]]:
    """The finest splits of channels that nodes make which the user has named."""
    least = np.full(len(trace.atoms), np.iinfo(np.int64).max)
    for split in trace.splits:
        np.minimum.at(least, split.factor.ids.ravel(), split.length)
    return {
        split.place
        for split in trace.splits
        if least[split.factor.ids].min() == split.length
        and any(
            fnmatchcase(name, pattern)
            for name in trace.atoms.makers(split.factor.ids)
            for pattern in trace.freedom.drop_heads
        )
    }


def _traced(
    model: ir.Model, facts: Facts, freedom: Freedom, drop: Collection[tuple[ir.Node, int]]
) -> Trace:
    trace = Trace(facts, freedom, drop)
    for node in walk(model.graph, "the tracing of channels"):
        trace.atoms.here = title(node)
        _label(node, facts, trace)
    for value in model.graph.outputs:
        trace.atoms.here = f"output {value.name}"
        trace.atoms.pin_all(trace.labels.get(value, ()), "is a graph output")
    return trace


def title(node: ir.Node) -> str:
    """How a node is called in messages: its name, or its operator and first output."""
    return node.name or f"{node.op_type} → {node.outputs[0].name if node.outputs else '?'}"


def _label(node: ir.Node, facts: Facts, trace: Trace) -> None:
    rule = rule_for(node.domain, node.op_type)
    x = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
    context = LabelContext(node, x, [facts.get(v, Fact()) for v in node.outputs], trace)
    made = len(trace.atoms)
    uses, mixes, norms = len(trace.uses), len(trace.mixes), len(trace.norms)
    try:
        if rule is None:
            raise Barrier(f"edgec has no rule for operator {_operator(node)}")
        if runs_graphs(node):
            raise Barrier(f"{_operator(node)} runs a nested graph")
        rule.labels(context)
        _check_outputs(node, trace)
    except Barrier as barrier:
        del trace.uses[uses:], trace.mixes[mixes:], trace.norms[norms:]
        trace.counts.pop(node, None)
        for value in (*node.inputs, *captured(node)):
            if value is not None:
                trace.atoms.pin_all(trace.labels.get(value, ()), str(barrier))
        trace.atoms.pin(np.arange(made, len(trace.atoms)), str(barrier))
        for value in node.outputs:
            trace.labels.pop(value, None)


def _check_outputs(node: ir.Node, trace: Trace) -> None:
    """A rule that labels one output labels them all: what it leaves out would not be cut along."""
    given = [value in trace.labels for value in node.outputs]
    if any(given) and not all(given):
        which = given.index(False)
        raise Barrier(f"edgec's rule for {_operator(node)} says nothing of output {which}")


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """Values of the main graph that the node's nested graphs read."""
    for graph in graphs_of(node):
        for inner in ir.traversal.RecursiveGraphIterator(graph):
            yield from (v for v in inner.inputs if v is not None and v.graph is node.graph)
        yield from (v for v in graph.outputs if v.graph is node.graph)
