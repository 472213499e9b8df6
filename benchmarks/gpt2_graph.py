"""A GPT-2 of any size as ONNX: the graph of GPT-2, random weights in a file beside it.

    python benchmarks/gpt2_graph.py gpt2-xl.onnx      # 48 layers, width 1600: 1.56 B parameters

The weights are one block of seeded numbers over and over, so that gigabytes of them are written as
fast as the disk takes them. Their values matter to no figure that is taken of the analysis.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

_BLOCK = 1 << 20  # numbers that repeat: 4 MB


@dataclass(frozen=True)
class Shape:
    """The sizes of a GPT-2; those that are not given are those of GPT-2 XL."""

    layers: int = 48
    width: int = 1600
    heads: int = 25
    vocabulary: int = 50257
    positions: int = 1024
    fused: bool = True  # query, key and value from one product


class _Writer:
    """Collects nodes and writes weights."""

    def __init__(self, data: Path, sparse: bool, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._data = data
        self._at = 0
        self._file = data.open("wb")
        self._sparse = sparse
        block = np.random.default_rng(seed).normal(0, 0.02, _BLOCK)
        self._block = block.astype("<f4").tobytes()

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Adds a node; its output, which is called after it."""
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, name: str, *dims: int) -> str:
        """Writes float32[dims]."""
        size = 4 * int(np.prod(dims))
        tensor = TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        where = {"location": self._data.name, "offset": self._at, "length": size}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        for start in range(0, 0 if self._sparse else size, len(self._block)):
            self._file.write(self._block[: size - start])
        self._at += size
        self.weights.append(tensor)
        return name

    def constant(self, name: str, value: object, dtype: type = np.int64) -> str:
        """Adds a small constant, which stays in the model's own file."""
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def linear(self, x: str, name: str, inner: int, outer: int) -> str:
        """x · W + b."""
        product = self.node("MatMul", [x, self.weight(f"{name}.weight", inner, outer)], name)
        return self.node("Add", [product, self.weight(f"{name}.bias", outer)], f"{name}.add")

    def norm(self, x: str, name: str, width: int) -> str:
        """Layer normalisation over the last axis."""
        params = [self.weight(f"{name}.{kind}", width) for kind in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *params], name, axis=-1)

    def close(self) -> None:
        """No more weights."""
        self._file.truncate(self._at)
        self._file.close()


def write(path: Path, shape: Shape, sparse: bool = False) -> None:
    """Writes `path`, and `path`.data beside it; with `sparse` that is a hole, all zeros.

    Input `ids` int64[batch, sequence], output `logits` float32[batch, sequence, vocabulary].
    """
    out = _Writer(path.with_name(f"{path.name}.data"), sparse)
    tokens = out.weight("wte", shape.vocabulary, shape.width)
    places = out.weight("wpe", shape.positions, shape.width)
    start, length = out.constant("start", [0]), out.node("Shape", ["ids"], "length", start=1)
    x = out.node(
        "Add",
        [
            out.node("Gather", [tokens, "ids"], "embed"),
            out.node("Slice", [places, start, length, start], "place"),
        ],
        "embedded",
    )
    square = out.node("Concat", [length, length], "square", axis=0)
    far = helper.make_tensor("far", TensorProto.FLOAT, [1], [-1e9])
    ahead = out.node("ConstantOfShape", [square], "ahead", value=far)
    mask = out.node("Trilu", [ahead, out.constant("above", 1)], "mask", upper=1)
    out.constant("heads", [0, 0, shape.heads, shape.width // shape.heads])
    out.constant("flat", [0, 0, shape.width])
    out.constant("scale", (shape.width / shape.heads) ** -0.5, np.float32)
    for number in range(shape.layers):
        x = _attention(out, x, f"h.{number}.attn", mask, shape)
        x = _mlp(out, x, f"h.{number}.mlp", shape.width)
    head = out.node("Transpose", [tokens], "wte.T", perm=[1, 0])
    out.node("MatMul", [out.norm(x, "ln_f", shape.width), head], "logits")
    out.close()
    logits = ["batch", "sequence", shape.vocabulary]
    graph = helper.make_graph(
        out.nodes,
        "gpt2",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info(out.nodes[-1].output[0], TensorProto.FLOAT, logits)],
        out.weights,
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


def _attention(out: _Writer, x: str, name: str, mask: str, shape: Shape) -> str:
    """x + attention(norm(x)), every token seeing those before it."""
    width = shape.width
    normed = out.norm(x, f"{name}.norm", width)
    if shape.fused:
        joined = out.linear(normed, f"{name}.qkv", width, 3 * width)
        out.node("Split", [joined], f"{name}.split", axis=-1, num_outputs=3)
        parts = [f"{name}.{part}" for part in "qkv"]
        out.nodes[-1].output[:] = parts
    else:
        parts = [out.linear(normed, f"{name}.{part}", width, width) for part in "qkv"]

    def rows(part: int, perm: Sequence[int]) -> str:
        split = out.node("Reshape", [parts[part], "heads"], f"{name}.heads.{part}")
        return out.node("Transpose", [split], f"{name}.rows.{part}", perm=perm)

    query, key, value = rows(0, (0, 2, 1, 3)), rows(1, (0, 2, 3, 1)), rows(2, (0, 2, 1, 3))
    scores = out.node("MatMul", [query, key], f"{name}.scores")
    scaled = out.node("Mul", [scores, "scale"], f"{name}.scaled")
    masked = out.node("Add", [scaled, mask], f"{name}.masked")
    shares = out.node("Softmax", [masked], f"{name}.softmax", axis=-1)
    mixed = out.node("MatMul", [shares, value], f"{name}.mixed")
    back = out.node("Transpose", [mixed], f"{name}.back", perm=(0, 2, 1, 3))
    joined = out.node("Reshape", [back, "flat"], f"{name}.joined")
    return out.node("Add", [x, out.linear(joined, f"{name}.out", width, width)], f"{name}.residual")


def _mlp(out: _Writer, x: str, name: str, width: int) -> str:
    """x + mlp(norm(x))."""
    wide = out.linear(out.norm(x, f"{name}.norm", width), f"{name}.in", width, 4 * width)
    active = out.node("Gelu", [wide], f"{name}.gelu", approximate="tanh")
    return out.node(
        "Add", [x, out.linear(active, f"{name}.out", 4 * width, width)], f"{name}.residual"
    )


def main() -> None:
    """Write the graph of GPT-2 XL, or a part of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    for option in ("layers", "width", "heads", "vocabulary", "positions"):
        parser.add_argument(f"--{option}", type=int, default=getattr(Shape, option))
    parser.add_argument("--separate", dest="fused", action="store_false", help="no fused q, k, v")
    parser.add_argument("--sparse", action="store_true", help="zeros, which take no room on disk")
    options = vars(parser.parse_args())
    write(options.pop("path"), sparse=options.pop("sparse"), shape=Shape(**options))


if __name__ == "__main__":
    main()
