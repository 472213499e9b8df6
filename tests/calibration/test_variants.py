"""Parts and variants: the same numbers as the whole model and the whole changed model give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run
from zoo.patterns import PATTERNS
from zoo.random_graphs import random_model

from edgec.calibration.moments import runner, weighted_layers
from edgec.calibration.variants import Parts, Variant, put_constant, sweep, values_of
from edgec.model import copied


class Kept:
    """Keeps the outputs of every batch."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, np.ndarray]] = []

    def add(self, batch: int, outputs: Mapping[str, np.ndarray]) -> None:
        assert batch == len(self.outputs)
        self.outputs.append(dict(outputs))


def halved(model: ir.Model, name: str) -> ir.Model:
    """A copy in which the layer that gives `name` has half its weights."""
    made = copied(model)
    node = values_of(made)[name].producer()
    assert node is not None
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    node.replace_input_with(1, put_constant(made, "half", weight.const_value.numpy() / 2))
    return made


NETWORKS: list[str | int] = ["residual_chain", "densenet_concat_chain", "c2f", 1, 5, 8, 13]


def network(key: str | int) -> ir.Model:
    return PATTERNS[key]() if isinstance(key, str) else random_model(key)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("key", NETWORKS)
def test_parts_give_what_the_whole_gives(key: str | int, most: int) -> None:
    model = network(key)
    feeds = feeds_of(model)
    parts = Parts(model, weighted_layers(model), most)
    assert len(parts) <= most
    found = parts.run(feeds, 0, len(parts))
    for value, expected in zip(model.graph.outputs, run(model, feeds), strict=True):
        np.testing.assert_allclose(found[value.name or ""], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("key", NETWORKS)
def test_a_variant_gives_what_the_changed_model_gives(key: str | int, most: int) -> None:
    model = network(key)
    layers = [n.outputs[0].name or "" for n in weighted_layers(model)]
    batches = [feeds_of(model, seed) for seed in (0, 1)]
    variants = [Variant(frozenset({n}), partial(halved, model, n)) for n in layers]
    parts = Parts(model, weighted_layers(model), most)
    found = list(sweep(parts, variants, lambda: iter(batches), Kept))
    assert len(found) == len(layers)
    assert {id(v) for v, _ in found} == {id(v) for v in variants}
    for variant, kept in found:
        made = variant.make()
        for feeds, outputs in zip(batches, kept.outputs, strict=True):
            for value, expected in zip(made.graph.outputs, run(made, feeds), strict=True):
                np.testing.assert_allclose(
                    outputs[value.name or ""], expected, rtol=1e-4, atol=1e-5
                )


def test_a_variant_may_reach_over_several_parts() -> None:
    model = network("residual_chain")
    layers = [n.outputs[0].name or "" for n in weighted_layers(model)]
    parts = Parts(model, weighted_layers(model), 100)
    assert len(parts) > 2
    first, *_, last = layers
    both = Variant(frozenset({first, last}), lambda: halved(halved_first(), last))

    def halved_first() -> ir.Model:
        made = halved(model, first)
        made.graph.initializers["half"].name = "other half"
        return made

    feeds = feeds_of(model)
    ((_, kept),) = sweep(parts, [both], lambda: [feeds], Kept)
    made = both.make()
    for value, expected in zip(made.graph.outputs, run(made, feeds), strict=True):
        np.testing.assert_allclose(
            kept.outputs[0][value.name or ""], expected, rtol=1e-4, atol=1e-5
        )


def test_cuts_lie_where_few_values_are_alive() -> None:
    """The shortcut of a residual block is not carried over a cut where one beside it is free."""
    model = model_of(
        """(float[1,4] x) => (y) <float[4,4] a, float[4,4] b, float[4,4] c, float[4,4] d> {
          h = MatMul(x, a)  p = MatMul(h, b)  q = MatMul(p, c)  r = Add(q, h)  y = MatMul(r, d) }"""
    )
    parts = Parts(model, weighted_layers(model), 2)
    assert parts.borders == [("x",), ("r",), ("y",)]


def test_nested_graphs_read_over_a_cut() -> None:
    model = model_of(
        """(float[1,4] x, bool k) => (y) <float[4,4] a, float[4,4] b, float[4,4] c> {
          h = MatMul(x, a)
          g = MatMul(h, b)
          f = MatMul(g, c)
          y = If(k) <then_branch = t () => (float[1,4] u) { u = Add(h, f) },
                     else_branch = e () => (float[1,4] v) { v = Sub(h, f) }> }"""
    )
    feeds = {"x": np.ones((1, 4), np.float32), "k": np.asarray(True)}
    parts = Parts(model, weighted_layers(model), 100)
    assert len(parts) == 3
    np.testing.assert_allclose(parts.run(feeds, 0, 3)["y"], run(model, feeds)[0], rtol=1e-5)


def test_what_depends_on_no_input_crosses_no_cut() -> None:
    """ONNX Runtime's quantiser writes every weight's DequantizeLinear before all else."""
    model = model_of(
        """(float[N,4] x) => (float[N,4] y)
        <float[4,4] a, float[4,4] b, float s = {0.5}, int8[4,4] i = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
         11, 12, 13, 14, 15, 16}> {
          w = DequantizeLinear(i, s)  h = MatMul(x, a)  g = MatMul(h, b)  y = MatMul(g, w) }"""
    )
    products = [node for node in model.graph if node.op_type == "MatMul"]
    parts = Parts(model, products, 100)
    assert len(parts) == 4  # one of them is empty but for the weight
    assert not any("w" in border for border in parts.borders)
    feeds = {"x": np.ones((2, 4), np.float32)}
    whole = runner(model, ["x"], ["y"])  # fused with the weight, it is another kernel than `run`'s
    np.testing.assert_allclose(parts.run(feeds, 0, 4)["y"], whole(feeds)["y"], rtol=1e-5)


def test_stale_shapes_are_not_believed() -> None:
    """A file may tell the shapes of the batch it was exported with, though its input is open."""
    model = model_of(
        """(float[N,4] x, int64[2] s) => (float[N,4] y) <float[4,4] a, float[4,4] b> {
          h = MatMul(x, a)  r = Reshape(h, s)  y = MatMul(r, b) }"""
    )
    told = values_of(model)["r"]
    told.type, told.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 4])
    parts = Parts(model, weighted_layers(model), 100)
    assert parts.borders[1] == ("r",)
    for size in (3, 2):
        feeds = {"x": np.ones((size, 4), np.float32), "s": np.asarray([size, 4])}
        assert parts.run(feeds, 0, 2)["y"].shape == (size, 4)
