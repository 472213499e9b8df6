"""Sampling and rearranging images: space is mixed, channels pass."""

from __future__ import annotations

from edgec.ops.examples import HEADER, between_convs, between_gemms
from edgec.ops.pool import sized_repair
from edgec.ops.rule import OpRule, Stop, free, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, Fact, View, product

_SAMPLED = "is sampled along this axis"
_PLACES = "says where another tensor is sampled"


def _grid_sample(n: LabelContext) -> None:
    """y[b,c,…] = x[b,c] at the places grid[b,…]."""
    n.keep(1, _PLACES)
    n.give(n.whole([0, *range(2, len(n.shape(0)))], _SAMPLED))


def _roi(n: LabelContext) -> None:
    """y[r,c,…] = x[batch[r],c] pooled over the region rois[r]."""
    n.keep(1, _PLACES)
    n.keep(2, _PLACES)
    n.give(n.whole([0, 2, 3], _SAMPLED))


def _affine_grid(n: LabelContext) -> None:
    """Places of samples: no channels, though `size` names their count."""
    n.keep(0, _PLACES)


def _unpooled(n: View) -> list[Fact]:
    """ONNX's own inference does not look at the size that is asked for."""
    size, shape = n.ints("output_shape", 2), n.shape(0)
    if size is None:
        kernel, space = n.attr("kernel_shape"), range(len(shape) - 2)
        strides, pads = n.attr("strides", [1] * len(space)), n.attr("pads", [0] * 2 * len(space))
        size = [
            *shape[:2],
            *(
                (shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + len(space)]
                for i in space
            ),
        ]
    return [Fact(n.fact(0).dtype, tuple(size))]


def _col2im(n: LabelContext) -> None:
    """x[b, (c, patch), places] → y[b, c, image…]: the elements of a patch go together."""
    patch = product(n.const(2).tolist())  # type: ignore[union-attr]
    x = n.only(0, 1, "is folded into an image along this axis")
    if x is not None:
        rows = x.reshape(-1, patch)
        n.atoms.unite(rows, rows[:, :1])
        n.give_line(rows[:, 0], 1)


def _center_crop_pad(n: LabelContext) -> None:
    sizes = zip(n.shape(0), n.out_shape(), strict=True)
    changed = [a for a, (old, new) in enumerate(sizes) if old != new]
    n.give(n.whole(changed, "is cropped or padded to a size"))


def _roi_cost(n: View) -> Cost:
    """Four corners a sample; how many samples are averaged is fixed or taken as one."""
    ratio = int(n.attr("sampling_ratio", 0)) or 1
    return Cost(0, 8 * ratio * ratio * product(n.out_shape()))


RULES = (
    OpRule(
        "GridSample",
        _grid_sample,
        per_output(8),
        between_convs("b = GridSample(a, g)", ", float[2,5,4,2] g"),
    ),
    OpRule(
        "AffineGrid",
        _affine_grid,
        per_output(4),
        between_gemms(
            "t = Reshape(x, split)\n  g = AffineGrid(t, size)\n"
            "  m = ReduceMean<keepdims=0>(g, rest)\n  u = Unsqueeze(m, last)\n  b = Mul(a, u)",
            ", int64[3] split = {5,2,3}, int64[4] size = {5,7,4,3}, int64[3] rest = {1,2,3},"
            " int64[1] last = {1}",
        ),
    ),
    OpRule(
        "RoiAlign",
        _roi,
        _roi_cost,
        between_convs(
            "b = RoiAlign<output_height=3, output_width=2, sampling_ratio=2>(a, rois, image)",
            ", float[3,4] rois = {0,0,7,7, 1,2,5,6, 3,0,7,4}, int64[3] image = {0,1,1}",
        ),
    ),
    OpRule(
        "MaxRoiPool",
        _roi,
        per_output(4),
        between_convs(
            "b = MaxRoiPool<pooled_shape=[3,2]>(a, rois)",
            ", float[3,5] rois = {0,0,0,7,7, 1,1,2,5,6, 1,3,0,7,4}",
        ),
    ),
    OpRule(
        "MaxUnpool",
        Stop("is unpooled by indices, which count its channels"),
        free,
        between_convs(
            "p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)\n"
            "  b = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(p, i, size)",
            ", int64[4] size = {2,6,8,8}",
            result="float[2,4,8,8] y",
        ),
        infer=_unpooled,
    ),
    OpRule(
        "Col2Im",
        _col2im,
        per_output(),
        HEADER + "example (float[2,3,4,4] x) => (y)\n"
        "<float[24,3,1,1] w1, int64[3] flat = {0,0,-1}, int64[2] image = {8,8},"
        " int64[2] patch = {2,2}, float[4,6,1,1] w2>\n"
        "{ a = Conv(x, w1)  c = Reshape(a, flat)  b = Col2Im<strides=[2,2]>(c, image, patch)\n"
        "  y = Conv(b, w2) }",
    ),
    OpRule(
        "CenterCropPad",
        _center_crop_pad,
        free,
        between_convs("b = CenterCropPad<axes=[1,2,3]>(a, size)", ", int64[3] size = {6,4,10}"),
        sized_repair(1),
    ),
)
