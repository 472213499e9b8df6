"""Random networks, one per seed: a convolutional DAG with one to three heads.

`random_text(seed)` is the network as ONNX text, small enough to read when a law fails on it;
`random_model(seed)` is the model with weights drawn from the same seed. Between 5 and 40 nodes;
every output is finite, and for 999 seeds in 1000 it moves with the input (a ReLU may die).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import onnx_ir as ir
from hypothesis import strategies as st

from zoo import model_of
from zoo._draft import Draft, Feature
from zoo._random_layers import LAYERS

MIN_NODES, MAX_NODES = 5, 40


def random_model(seed: int) -> ir.Model:
    """The random network of `seed`: one float input, one to three float outputs, opset 20."""
    return model_of(random_text(seed), seed)


def models() -> st.SearchStrategy[ir.Model]:
    """Random networks for hypothesis; a failing example names the seed to look at."""
    return st.builds(random_model, st.integers(0, 2**20))


def random_text(seed: int) -> str:
    """The network of `seed` in the language of `zoo.model_of`."""
    source = random.Random(seed)
    while True:
        draft = Draft(source)
        image, outputs = _draw(draft)
        if MIN_NODES <= len(draft.reached(outputs)) <= MAX_NODES:
            return draft.text(f"random_{seed}", [image], outputs)


def _draw(d: Draft) -> tuple[Feature, list[Feature]]:
    """A stem, random layers each on a live feature (the newest most often), heads on some."""
    h, w = d.rng.randint(4, 16), d.rng.randint(4, 16)
    image = Feature("x", (d.rng.randint(1, 3), d.rng.randint(1, 4), h, w))
    stem_c = d.rng.randint(2, 16)
    weight = d.weight(stem_c, image.c, 3, 3)
    d.live.append(d.op("Conv", [image, weight], *image.with_c(stem_c), pads=[1] * 4))
    kinds, odds = list(LAYERS), list(LAYERS.values())
    for layer in d.rng.choices(kinds, odds, k=d.rng.randint(2, 24)):
        x = d.live[-1] if d.rng.random() < 0.75 else d.rng.choice(d.live)
        y = layer(d, x)
        if y is not None and y.c > 1:
            d.live.append(y)
    tops = [d.live[-1], *d.rng.choices(d.live, k=d.rng.choice((0, 0, 1, 2)))]
    return image, [d.rng.choice(HEADS)(d, top) for top in tops]


def _map(d: Draft, x: Feature) -> Feature:
    """A 1x1 convolution: one score per pixel and class."""
    return d.op("Conv", [x, d.weight(3, x.c, 1, 1), d.weight(3)], *x.with_c(3))


def _bare(d: Draft, x: Feature) -> Feature:
    """The feature itself, so that its channels are pinned."""
    return d.op("Identity", [x], *x.shape)


def _pooled(d: Draft, x: Feature) -> Feature:
    """Global mean, hidden layer, softmax over classes (cooled, lest one class take all)."""
    n = x.shape[0]
    if d.rng.random() < 0.5:
        p = d.op("ReduceMean", [x, d.ints(2, 3)], n, x.c, keepdims=0)
    else:
        p = d.op("Flatten", [d.op("GlobalAveragePool", [x], n, x.c, 1, 1)], n, x.c)
    h = d.op("Gemm", [p, d.weight(9, x.c), d.weight(9)], n, 9, transB=1)
    z = d.op("MatMul", [d.op("Relu", [h], n, 9), d.weight(9, 5)], n, 5)
    cool = d.op("Div", [z, d.const("float", 4.0)], n, 5)
    return d.op("Softmax", [cool], n, 5, axis=-1)


def _flat(d: Draft, x: Feature) -> Feature:
    """Flatten (NCHW or NHWC order) and one linear layer."""
    n, size = x.shape[0], math.prod(x.shape[1:])
    if d.rng.random() < 0.5:
        t = d.op("Transpose", [x], n, *x.hw, x.c, perm=[0, 2, 3, 1])
        f = d.op("Reshape", [t, d.ints(n, -1)], n, size)
    else:
        f = d.op("Flatten", [x], n, size)
    return d.op("Gemm", [f, d.weight(size, 5), d.weight(5)], n, 5)


def _tokens(d: Draft, x: Feature) -> Feature:
    """Pixels as tokens: token mixing, a gated layer over channels, a token or the mean read."""
    n, c, t = *x.shape[:2], math.prod(x.hw)
    rows = d.op("Reshape", [x, d.ints(n, c, t)], n, c, t)
    mixed = d.rng.random() < 0.5
    if mixed:
        rows = d.op("MatMul", [rows, d.weight(t, t)], n, c, t)
    e = d.op("Transpose", [rows], n, t, c, perm=[0, 2, 1])
    h = d.op("MatMul", [e, d.weight(c, 12)], n, t, 12)
    a, b = d.ops("Split", [h], [(n, t, 6), (n, t, 6)], axis=2, num_outputs=2)
    m = d.op("Mul", [a, d.op("Sigmoid", [b], n, t, 6)], n, t, 6)
    if mixed:
        one = d.op("Gather", [m, d.const("int64", t // 2)], n, 6, axis=1)
    else:
        one = d.op("ReduceMean", [m, d.ints(1)], n, 6, keepdims=0)
    return d.op("MatMul", [one, d.weight(6, 4)], n, 4)


HEADS: tuple[Callable[[Draft, Feature], Feature], ...] = (
    _map,
    _map,
    _bare,
    _pooled,
    _pooled,
    _flat,
    _flat,
    _tokens,
)
"""Readouts; listed twice, drawn twice as often."""
