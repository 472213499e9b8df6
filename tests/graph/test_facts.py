"""Concrete shapes and small constants, as far as they can be told before a run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from laws.attacks import ATTACKS
from zoo import feeds_of, model_of, run
from zoo.patterns import PATTERNS

from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.ops.view import Fact


def facts(text: str, **sizes: tuple[int, ...]) -> dict[str, Fact]:
    model = model_of(text)
    shapes = dict(input_shapes(model)) | sizes
    return {v.name or "": fact for v, fact in facts_of(model, shapes).items()}


def test_shapes_that_are_computed() -> None:
    found = facts(
        "(float[N,3,4,4] x) => (y) <int64[1] rest = {-1}, int64 i0 = {0}, int64[1] ax = {0}>"
        "{ s = Shape(x)  n = Gather(s, i0)  u = Unsqueeze(n, ax)"
        "  t = Concat<axis=0>(u, rest)  y = Reshape(x, t)  z = Size(y) }",
        x=(5, 3, 4, 4),
    )
    assert found["y"].shape == (5, 48)
    assert found["y"].const is None
    np.testing.assert_array_equal(found["t"].const, [5, -1])


def test_size_and_parts_of_shapes() -> None:
    found = facts(
        "(float[2,3,4] x) => (y) { a = Size(x)  b = Shape<start=-2>(x)  c = Shape<end=1>(x)"
        "  d = Cast<to=7>(a)  y = Mul(d, b) }"
    )
    assert found["a"].const == 24
    np.testing.assert_array_equal(found["b"].const, [3, 4])
    np.testing.assert_array_equal(found["c"].const, [2])
    np.testing.assert_array_equal(found["y"].const, [72, 96])


def test_what_is_random_is_not_constant() -> None:
    found = facts("(float[2] x) => (y) { r = RandomNormal<shape=[2]>()  y = Add(x, r) }")
    assert found["r"].shape == (2,)
    assert found["r"].const is None


def test_large_constants_keep_their_shape_only() -> None:
    found = facts("(float[5000] x) => (y) <float[5000] w, float[9] v> { y = Add(x, w) }")
    assert found["w"].shape == (5000,)
    assert found["w"].const is None


def test_unknown_operators_say_what_is_declared() -> None:
    found = facts(
        '<ir_version: 10, opset_import: ["" : 20, "acme" : 1]>'
        "g (float[2,3] x) => (float[4] y, float[n] z) <float[2,7] a>"
        "{ y = acme.Foo(x)  z = acme.Bar(y) }"
    )
    assert found["y"] == Fact(ir.DataType.FLOAT, (4,))
    assert found["z"].shape is None


@pytest.mark.parametrize("name", [*PATTERNS, *ATTACKS])
def test_shapes_are_those_of_the_runtime(name: str) -> None:
    model = (PATTERNS | ATTACKS)[name]()
    feeds = feeds_of(model, 0, {"N": 3})
    found = facts_of(model, {k: v.shape for k, v in feeds.items()})
    outputs = run(model, feeds)
    for value, output in zip(model.graph.outputs, outputs, strict=True):
        if found[value].shape is not None:
            assert found[value].shape == output.shape


def test_a_constant_may_be_infinite(recwarn: pytest.WarningsRecorder) -> None:
    """Nobody is warned of it, and where warnings are errors it is computed all the same."""
    model = model_of("(float[1] x) => (y) <float[1] z = {0.0}> { l = Log(z)  y = Add(x, l) }")
    facts = facts_of(model, {"x": (1,)})
    known = facts[model.graph[0].outputs[0]].const
    assert known is not None
    assert np.isneginf(known).all()
    assert not recwarn.list
