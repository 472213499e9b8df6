"""What a pass must not leave behind."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest
from zoo import model_of

from edgec.errors import VerificationError
from edgec.graph.lint import lint

TEXT = (
    "(float[1,3,4,4] x) => (y) <float[4,3,1,1] a, float[2,4,1,1] b>"
    "{ [one] h = Conv(x, a)  [two] r = Relu(h)  [three] y = Conv(r, b) }"
)


def out_of_order(graph: ir.Graph) -> None:
    node = graph[0]
    graph.remove(node)
    graph.append(node)


def second_definition(graph: ir.Graph) -> None:
    graph[1].outputs[0].name = "h"


def lost_weight(graph: ir.Graph) -> None:
    del graph.initializers["b"]


def lost_output(graph: ir.Graph) -> None:
    graph.outputs[0] = ir.Value(name="nowhere")


def test_a_sound_graph_passes() -> None:
    lint(model_of(TEXT))


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (out_of_order, r"node 'two': reads 'h' before anything has made it"),
        (second_definition, r"node 'two': makes 'h' a second time"),
        (lost_weight, r"node 'three': reads 'b' before anything has made it"),
        (lost_output, r"graph output 'nowhere': is made by no node"),
    ],
)
def test_names_what_is_wrong(spoil: Callable[[ir.Graph], None], fact: str) -> None:
    model = model_of(TEXT)
    spoil(model.graph)
    with pytest.raises(VerificationError, match=fact) as error:
        lint(model)
    assert "please report the model" in error.value.remedy
