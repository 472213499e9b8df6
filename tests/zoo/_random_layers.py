"""The layers that `zoo.random_graphs` draws from: feature in, feature out, None where unfit.

Sizes stay small: 2..24 channels, 2..16 pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable

from zoo._draft import Draft, Feature

MAX_C, MAX_HW = 24, 16
Layer = Callable[[Draft, Feature], Feature | None]


def conv(d: Draft, x: Feature, o: int | None = None, same: bool = False) -> Feature | None:
    """Any convolution; with `same`, height and width are kept."""
    o = o or d.rng.randint(2, MAX_C)
    g = d.rng.choice([n for n in (1, 1, 1, 2, 3, 4) if x.c % n == 0 and o % n == 0])
    k = d.rng.choice((1, 3, 3))
    dilation = d.rng.choice((1, 1, 2)) if k > 1 else 1
    stride = 1 if same else d.rng.choice((1, 1, 2))
    pad = dilation * (k - 1) // 2 if same else d.rng.randint(0, dilation * (k - 1) // 2)
    h, w = ((n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n in x.hw)
    if min(h, w) < 2:
        return None
    shape = (o, x.c // g, k, k)
    weight = d.weight(*shape)
    if same and g == dilation == 1:
        d.convs.append((weight, shape))
    args: list[Feature | str] = [x, weight, *([d.weight(o)] if d.rng.random() < 0.5 else [])]
    attributes = {"pads": [pad] * 4, "strides": [stride] * 2, "dilations": [dilation] * 2}
    return d.op("Conv", args, x.shape[0], o, h, w, group=g, **attributes)


def conv_same(d: Draft, x: Feature) -> Feature | None:
    return conv(d, x, same=True)


def conv_shared(d: Draft, x: Feature) -> Feature:
    """A convolution whose weight another one uses already; failing that, one applied twice."""
    fits = [(w, s) for w, s in d.convs if s[1] == x.c]
    if fits:
        weight, shape = d.rng.choice(fits)
        return d.op("Conv", [x, weight], *x.with_c(shape[0]), pads=[shape[2] // 2] * 4)
    weight, pads = d.weight(x.c, x.c, 3, 3), [1] * 4
    once = d.op("Relu", [d.op("Conv", [x, weight], *x.shape, pads=pads)], *x.shape)
    return d.op("Conv", [once, weight], *x.shape, pads=pads)


def depthwise(d: Draft, x: Feature) -> Feature | None:
    o = x.c * d.rng.choice((1, 1, 2))
    if o > MAX_C:
        return None
    args: list[Feature | str] = [x, d.weight(o, 1, 3, 3), d.weight(o)]
    return d.op("Conv", args, *x.with_c(o), group=x.c, pads=[1] * 4)


def conv_transpose(d: Draft, x: Feature) -> Feature | None:
    o = d.rng.randint(2, MAX_C)
    g = d.rng.choice([n for n in (1, 1, 2, 3) if x.c % n == 0 and o % n == 0])
    h, w = (2 * n for n in x.hw)
    if max(h, w) > MAX_HW:
        return None
    args: list[Feature | str] = [x, d.weight(x.c, o // g, 2, 2), d.weight(o)]
    return d.op("ConvTranspose", args, x.shape[0], o, h, w, group=g, strides=[2, 2])


def batch_norm(d: Draft, x: Feature) -> Feature:
    return d.op("BatchNormalization", [x, *(d.weight(x.c) for _ in range(4))], *x.shape)


def instance_norm(d: Draft, x: Feature) -> Feature:
    """Norm and ReLU: without the second, a global mean downstream would be a constant."""
    n = d.op("InstanceNormalization", [x, d.weight(x.c), d.weight(x.c)], *x.shape)
    return d.op("Relu", [n], *x.shape)


def activation(d: Draft, x: Feature) -> Feature:
    kind = d.rng.choice(("Relu", "Relu", "LeakyRelu", "Elu", "HardSwish", "Gelu", "Tanh", "PRelu"))
    if kind == "PRelu":
        slope = d.weight(d.rng.choice((1, x.c)), 1, 1)
        return d.op(kind, [x, slope], *x.shape)
    return d.op(kind, [x], *x.shape)


def scale_shift(d: Draft, x: Feature) -> Feature:
    """Constants per channel, and one scalar, on either side of the operator."""
    scaled = d.op("Mul", [x, d.weight(1, x.c, 1, 1)], *x.shape)
    shifted = d.op("Add", [d.weight(x.c, 1, 1), scaled], *x.shape)
    return d.op("Div", [shifted, d.const("float", 1.5)], *x.shape)


def residual(d: Draft, x: Feature) -> Feature | None:
    f = conv(d, x, o=x.c, same=True)
    if f is None:
        return None
    return d.op(d.rng.choice(("Add", "Add", "Sub")), d.rng.sample([x, f], 2), *x.shape)


def join(d: Draft, x: Feature) -> Feature | None:
    """Meet one or two features of the same shape: earlier ones, or a new branch."""
    others = [f for f in d.live if f.shape == x.shape and f != x]
    branch = conv(d, x, o=x.c, same=True)
    if branch is not None and (not others or d.rng.random() < 0.5):
        others.append(branch)
    if not others:
        return None
    kind = d.rng.choice(("Add", "Max", "Sum", "Mean"))
    many = d.rng.sample(others, min(len(others), 1 if kind == "Add" else 2))
    return d.op(kind, [*many, x], *x.shape)


def concat(d: Draft, x: Feature) -> Feature | None:
    """Concatenate with an earlier feature, or with a new branch."""
    others = [f for f in d.live if f.shape[2:] == x.shape[2:]]
    branch = conv(d, x, same=True)
    if branch is not None:
        others.append(branch)
    others = [f for f in others if f.c + x.c <= MAX_C]
    if not others:
        return None
    parts = [x, d.rng.choice(others)]
    d.rng.shuffle(parts)
    return d.op("Concat", parts, *x.with_c(sum(p.c for p in parts)), axis=d.rng.choice((1, -3)))


def split(d: Draft, x: Feature) -> Feature | None:
    """Two or three parts, equal or not; one goes on, the others stay available."""
    if x.c < 4:
        return None
    if x.c % 2 == 0 and d.rng.random() < 0.5:
        shape = x.with_c(x.c // 2)
        parts = d.ops("Split", [x], [shape, shape], axis=1, num_outputs=2)
    else:
        cuts = sorted(d.rng.sample(range(1, x.c), 2))
        sizes = [cuts[0], cuts[1] - cuts[0], x.c - cuts[1]]
        parts = d.ops("Split", [x, d.ints(*sizes)], [x.with_c(n) for n in sizes], axis=1)
    d.rng.shuffle(parts)
    d.live.extend(parts[1:])
    return parts[0]


def glu(d: Draft, x: Feature) -> Feature | None:
    if x.c % 2 or x.c < 4:
        return None
    shape = x.with_c(x.c // 2)
    a, b = d.ops("Split", [x], [shape, shape], axis=-3, num_outputs=2)
    return d.op("Mul", [a, d.op("Sigmoid", [b], *shape)], *shape)


def shuffle(d: Draft, x: Feature) -> Feature | None:
    """Channel shuffle: view, transpose, view."""
    groups = [g for g in (2, 3, 4) if x.c % g == 0 and x.c > g]
    if not groups:
        return None
    g, (n, c, h, w) = d.rng.choice(groups), x.shape
    batch = d.rng.choice((0, n))
    apart = d.op("Reshape", [x, d.ints(batch, g, -1, h, w)], n, g, c // g, h, w)
    turned = d.op("Transpose", [apart], n, c // g, g, h, w, perm=[0, 2, 1, 3, 4])
    return d.op("Reshape", [turned, d.ints(batch, c, h, w)], *x.shape)


def pad(d: Draft, x: Feature) -> Feature | None:
    """Zeros around the image, or more channels."""
    if d.rng.random() < 0.5 and x.c + 3 <= MAX_C:
        before, after = d.rng.randint(0, 2), 1
        pads = d.ints(0, before, 0, 0, 0, after, 0, 0)
        return d.op("Pad", [x, pads], *x.with_c(x.c + before + after))
    if max(x.hw) + 2 > MAX_HW:
        return None
    h, w = x.hw
    return d.op("Pad", [x, d.ints(0, 0, 1, 1, 0, 0, 1, 1)], *x.shape[:2], h + 2, w + 2)


def pool(d: Draft, x: Feature) -> Feature | None:
    if min(x.hw) < 4:
        return None
    kind, (h, w) = d.rng.choice(("MaxPool", "AveragePool")), x.hw
    shape = (*x.shape[:2], h // 2, w // 2)
    return d.op(kind, [x], *shape, kernel_shape=[2, 2], strides=[2, 2])


def resize(d: Draft, x: Feature) -> Feature | None:
    h, w = (2 * n for n in x.hw)
    if max(h, w) > MAX_HW:
        return None
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    if d.rng.random() < 0.5:
        scales = d.const("float", (1, 1, 2, 2))
        return d.op("Resize", [x, "", scales], *x.shape[:2], h, w, **mode)
    sizes = d.ints(*x.shape[:2], h, w)
    return d.op("Resize", [x, "", "", sizes], *x.shape[:2], h, w, **mode)


def squeeze_excite(d: Draft, x: Feature) -> Feature | None:
    n, c, h, w = x.shape
    mid = max(2, c // 2)
    p = d.op("GlobalAveragePool", [x], n, c, 1, 1)
    r = d.op("Relu", [d.op("Conv", [p, d.weight(mid, c, 1, 1)], n, mid, 1, 1)], n, mid, 1, 1)
    e = d.op("Conv", [r, d.weight(c, mid, 1, 1), d.weight(c)], n, c, 1, 1)
    g = d.op("Sigmoid", [e], n, c, 1, 1)
    if d.rng.random() < 0.3:
        g = d.op("Expand", [g, d.ints(1, c, h, w)], *x.shape)
    return d.op("Mul", d.rng.sample([x, g], 2), *x.shape)


def spatial_gate(d: Draft, x: Feature) -> Feature:
    """One channel of attention, broadcast over all."""
    n, _, h, w = x.shape
    if d.rng.random() < 0.5:
        a = d.op("Conv", [x, d.weight(1, x.c, 1, 1)], n, 1, h, w)
    else:
        a = d.op("ReduceMean", [x, d.ints(1)], n, 1, h, w)
    return d.op("Mul", [x, d.op("Sigmoid", [a], n, 1, h, w)], *x.shape)


def slice_channels(d: Draft, x: Feature) -> Feature | None:
    if x.c < 4:
        return None
    start, step = d.rng.randint(0, 1), d.rng.choice((1, 1, 2))
    end = d.rng.choice((x.c - 1, x.c, -1, 2**31))
    stop = {-1: x.c - 1}.get(end, min(end, x.c))
    kept = len(range(start, stop, step))
    args = [d.ints(v) for v in (start, end, d.rng.choice((1, -3)), step)]
    return d.op("Slice", [x, *args], *x.with_c(kept))


def slice_spatial(d: Draft, x: Feature) -> Feature | None:
    h, w = x.hw
    if min(h, w) < 4:
        return None
    args = [d.ints(*v) for v in ((0, 1), (h, w), (2, 3), (2, 1))]
    return d.op("Slice", [x, *args], *x.shape[:2], (h + 1) // 2, w - 1)


def gather(d: Draft, x: Feature) -> Feature:
    """Chosen channels, in any order, some perhaps twice."""
    picked = [d.rng.randrange(-x.c, x.c) for _ in range(d.rng.randint(2, min(MAX_C, x.c + 2)))]
    return d.op("Gather", [x, d.ints(*picked)], *x.with_c(len(picked)), axis=1)


def depth_to_space(d: Draft, x: Feature) -> Feature | None:
    """Pixel shuffle, behind a 1x1 convolution where the width does not divide."""
    h, w = (2 * n for n in x.hw)
    if max(h, w) > MAX_HW:
        return None
    x = x if x.c % 4 == 0 and x.c >= 8 else _to_width(d, x, d.rng.choice((8, 12, 16)))
    mode = d.rng.choice(("CRD", "DCR"))
    return d.op("DepthToSpace", [x], x.shape[0], x.c // 4, h, w, blocksize=2, mode=mode)


def space_to_depth(d: Draft, x: Feature) -> Feature | None:
    """Pixel unshuffle, as one operator or spelt out; narrowed first where it would get too wide."""
    if any(n % 2 or n < 4 for n in x.hw):
        return None
    x = x if x.c * 4 <= MAX_C else _to_width(d, x, d.rng.randint(2, MAX_C // 4))
    n, c, h, w = x.shape
    shape = (n, c * 4, h // 2, w // 2)
    if d.rng.random() < 0.5:
        return d.op("SpaceToDepth", [x], *shape, blocksize=2)
    apart = (n, c, h // 2, 2, w // 2, 2)
    a = d.op("Reshape", [x, d.ints(*apart)], *apart)
    t = d.op("Transpose", [a], n, c, 2, 2, h // 2, w // 2, perm=[0, 1, 3, 5, 2, 4])
    return d.op("Reshape", [t, d.ints(*shape)], *shape)


def _to_width(d: Draft, x: Feature, c: int) -> Feature:
    return d.op("Conv", [x, d.weight(c, x.c, 1, 1), d.weight(c)], *x.with_c(c))


def pointwise_nhwc(d: Draft, x: Feature) -> Feature:
    """A linear layer over channels in NHWC, behind a LayerNorm or not."""
    (n, c, h, w), o = x.shape, d.rng.randint(2, MAX_C)
    t = d.op("Transpose", [x], n, h, w, c, perm=[0, 2, 3, 1])
    if d.rng.random() < 0.3:
        t = d.op("LayerNormalization", [t, d.weight(c), d.weight(c)], n, h, w, c, axis=-1)
    m = d.op("MatMul", [t, d.weight(c, o)], n, h, w, o)
    b = d.op("Add", [m, d.weight(o)], n, h, w, o)
    return d.op("Transpose", [b], n, o, h, w, perm=[0, 3, 1, 2])


def attention(d: Draft, x: Feature) -> Feature | None:
    """Pixels attend to each other; keys and values of as many heads, or of one for all (GQA)."""
    (n, c, h, w), t = x.shape, x.hw[0] * x.hw[1]
    if t > 100:
        return None
    heads, k, v = d.rng.randint(2, 4), d.rng.randint(2, 4), d.rng.randint(2, 4)
    shared = d.rng.random() < 0.3
    flat = d.op("Reshape", [x, d.ints(n, c, t)], n, c, t)
    rows = d.op("Transpose", [flat], n, t, c, perm=[0, 2, 1])

    def project(count: int, width: int, keys: bool = False) -> Feature:
        y = d.op("MatMul", [rows, d.weight(c, count * width)], n, t, count * width)
        z = d.op("Reshape", [y, d.ints(n, t, count, width)], n, t, count, width)
        if keys:
            return d.op("Transpose", [z], n, count, width, t, perm=[0, 2, 3, 1])
        return d.op("Transpose", [z], n, count, t, width, perm=[0, 2, 1, 3])

    own = 1 if shared else heads
    scores = d.op("MatMul", [project(heads, k), project(own, k, keys=True)], n, heads, t, t)
    cool = d.op("Div", [scores, d.const("float", 4.0)], n, heads, t, t)
    shares = d.op("Softmax", [cool], n, heads, t, t, axis=-1)
    mixed = d.op("MatMul", [shares, project(own, v)], n, heads, t, v)
    back = d.op("Transpose", [mixed], n, t, heads, v, perm=[0, 2, 1, 3])
    joined = d.op("Reshape", [back, d.ints(n, t, -1)], n, t, heads * v)
    o = d.rng.randint(2, MAX_C)
    out = d.op("MatMul", [joined, d.weight(heads * v, o)], n, t, o)
    turned = d.op("Transpose", [out], n, o, t, perm=[0, 2, 1])
    return d.op("Reshape", [turned, d.ints(n, o, h, w)], n, o, h, w)


LAYERS: dict[Layer, int] = {
    conv: 8,
    conv_same: 8,
    conv_shared: 5,
    depthwise: 3,
    conv_transpose: 2,
    batch_norm: 5,
    instance_norm: 1,
    activation: 7,
    scale_shift: 2,
    residual: 5,
    join: 5,
    concat: 5,
    split: 3,
    glu: 2,
    shuffle: 3,
    pad: 2,
    pool: 2,
    resize: 2,
    squeeze_excite: 2,
    spatial_gate: 2,
    slice_channels: 2,
    slice_spatial: 1,
    gather: 2,
    depth_to_space: 3,
    space_to_depth: 3,
    pointwise_nhwc: 3,
    attention: 3,
}
"""Every layer and how often it is drawn."""
