"""Nine real topologies that ship inside the onnx wheel, given seeded weights.

The files (opset 9, IR 3, initializers listed as inputs) hold the graphs of the ONNX model zoo
with most weights replaced by `ConstantOfShape(0.02)`: every channel alike, on which any law of
channel removal holds trivially. Here each such node becomes an initializer with drawn values.

The few float tensors that the files kept from training (vectors of 64 or less) are drawn too:
among random weights their statistics (BatchNormalization variances from 1e-45 to 5e4) would
silence the signal or blow it up. Integers and the graph itself stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from zoo._weights import draw, uses_of

NAMES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)

GAIN = {"inception_v2": 0.85, "resnet50": 0.7, "shufflenet": 0.6}
"""Factor on the weights of networks whose signal would otherwise grow with depth."""


def light_raw_path(name: str) -> Path:
    """The file as the onnx wheel ships it."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"


def light(network: str, seed: int = 0) -> ir.Model:
    """The network named in `NAMES` with weights drawn from `seed`; input 1x3x224x224 float32."""
    proto = onnx.load(light_raw_path(network))
    uses = uses_of(proto.graph)
    given = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    model = ir.from_proto(proto)
    model.ir_version = 4  # the first where an initializer need not be an input
    graph = model.graph

    def fresh(name: str, shape: tuple[int, ...]) -> ir.Value:
        gain = GAIN.get(network, 1.0)
        values = draw(name, shape, uses.get(name, ()), seed, centre=0.95, gain=gain)
        return ir.val(name, const_value=ir.tensor(values, name=name))

    for value in [v for v in graph.inputs if v.is_initializer()]:
        graph.inputs.remove(value)
    for name, array in given.items():
        if array.dtype == "float32":
            graph.initializers[name].const_value = fresh(name, array.shape).const_value
    for node in [n for n in proto.graph.node if n.op_type == "ConstantOfShape"]:
        shape, name = node.input[0], node.output[0]
        filler = graph.initializers[shape].consumers()[0]
        weight = fresh(name, tuple(given[shape].tolist()))
        filler.outputs[0].replace_all_uses_with(weight)
        graph.remove(filler, safe=True)
        graph.initializers.add(weight)
        del graph.initializers[shape]
    return model
