"""Kinds of nodes that every walk over a graph tells apart."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

UNFOLDED = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}
    | {"Bernoulli"}  # drawn anew at every run
    | {"DequantizeLinear"}  # its result is larger than the integers that it reads
)
"""Operators whose result is no constant even where all that they read is."""


def graphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node runs: the branches of If, the body of Loop."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def runs_graphs(node: ir.Node) -> bool:
    """Whether a node runs a nested graph; an empty one counts."""
    return next(graphs_of(node), None) is not None
