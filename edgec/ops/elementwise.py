"""Operators that work element by element; inputs broadcast as in numpy."""

from __future__ import annotations

from edgec.ops.examples import at_opset, between_convs
from edgec.ops.meet import meet
from edgec.ops.rule import OpRule, free, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, View, product


def first(n: LabelContext) -> None:
    """One data input; all others are scalars or options. A mask has the channels of its data."""
    for out in range(len(n.node.outputs)):
        n.give(n.labels(0), out)


def every(n: LabelContext) -> None:
    n.give(meet(n, range(len(n.node.inputs))))


_OPSET = {"Swish": 24}  # operators younger than the other examples

# Brings an example's values to where the function is defined, and far from its poles.
_INTO_DOMAIN = {
    "Acos": "Softsign", "Acosh": "Cosh", "Asin": "Softsign", "Atanh": "Softsign", "Log": "Cosh",
    "Sqrt": "Abs", "Tan": "Softsign",
}  # fmt: skip


def _folded(n: View) -> Cost:
    """One operation less than inputs, per element."""
    return Cost(0, (len(n.node.inputs) - 1) * product(n.out_shape()))


def _unary(op: str, operations: int) -> OpRule:
    into = _INTO_DOMAIN.get(op)
    body = f"b = {op}(a)" if into is None else f"r = {into}(a)\n  b = {op}(r)"
    example = at_opset(between_convs(body), _OPSET.get(op, 21))
    return OpRule(op, first, per_output(operations), example)


# Operations per element. Transcendental functions count as one, products of simpler ones as many.
_UNARY = {
    "Abs": 1, "Acos": 1, "Acosh": 1, "Asin": 1, "Asinh": 1, "Atan": 1, "Atanh": 1,
    "Ceil": 1, "Celu": 3, "Cos": 1, "Cosh": 1, "Elu": 3, "Erf": 1, "Exp": 1, "Floor": 1,
    "Gelu": 5, "HardSigmoid": 3, "HardSwish": 4, "LeakyRelu": 1, "Log": 1, "Mish": 4,
    "Neg": 1, "Reciprocal": 1, "Relu": 1, "Round": 1, "Selu": 3, "Shrink": 2, "Sigmoid": 3,
    "Sign": 1, "Sin": 1, "Sinh": 1, "Softplus": 2, "Softsign": 3, "Sqrt": 1, "Swish": 4,
    "Tan": 1, "Tanh": 1, "ThresholdedRelu": 1,
}  # fmt: skip

_BINARY = ("Add", "Sub", "Mul", "Div")
_COMPARE = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_NARY = ("Sum", "Max", "Min", "Mean")


def _example(body: str, weights: str = ", float[6,1,1] p") -> str:
    return between_convs(body, weights)


RULES = (
    *(_unary(op, cost) for op, cost in _UNARY.items()),
    *(OpRule(op, every, per_output(), _example(f"b = {op}(a, p)")) for op in _BINARY),
    *(
        OpRule(
            op,
            every,
            per_output(),
            _example(f"r = Sign(a)\n  s = Sign(p)\n  c = {op}(r, s)\n  b = Cast<to=1>(c)"),
        )
        for op in _COMPARE
    ),
    *(OpRule(op, every, _folded, _example(f"r = Relu(a)\n  b = {op}(a, r)")) for op in _NARY),
    OpRule("Pow", every, per_output(), _example("r = Abs(a)\n  b = Pow(r, p)")),
    OpRule("PRelu", every, per_output(2), _example("b = PRelu(a, p)")),
    OpRule("Mod", every, per_output(), _example("b = Mod<fmod=1>(a, p)")),
    OpRule(
        "Where",
        every,
        per_output(),
        _example("c = Greater(a, p)\n  r = Abs(a)\n  b = Where(c, a, r)"),
    ),
    *(
        OpRule(
            op,
            every,
            per_output(),
            _example(
                f"r = Cos(a)\n  c = Greater(r, p)\n  d = Less(a, p)\n"
                f"  e = {op}(c, d)\n  b = Cast<to=1>(e)"
            ),
        )
        for op in ("And", "Or", "Xor")
    ),
    OpRule(
        "Not",
        first,
        per_output(),
        _example("c = Greater(a, p)\n  d = Not(c)\n  b = Cast<to=1>(d)"),
    ),
    OpRule(
        "IsNaN",
        first,
        per_output(),
        _example("c = IsNaN(a)\n  d = Cast<to=1>(c)\n  b = Add(a, d)"),
    ),
    OpRule(
        "IsInf",
        first,
        per_output(),
        _example("c = IsInf(a)\n  d = Cast<to=1>(c)\n  b = Add(a, d)"),
    ),
    OpRule(
        "Clip",
        first,
        per_output(2),
        _example("b = Clip(a, l, h)", ", float l = {-0.5}, float h = {0.5}"),
    ),
    *(
        OpRule(
            op,
            every,
            per_output(),
            _example(
                f"r = Abs(a)\n  s = Mul(r, k)\n  i = Cast<to=13>(s)\n  c = {op}{way}(i, j)\n"
                "  b = Cast<to=1>(c)",
                ", float k = {16.0}, uint64 j = {3}",
            ),
        )
        for op, way in (
            ("BitwiseAnd", ""),
            ("BitwiseOr", ""),
            ("BitwiseXor", ""),
            ("BitShift", '<direction="RIGHT">'),
        )
    ),
    OpRule(
        "BitwiseNot",
        first,
        per_output(),
        _example("i = Cast<to=6>(a)\n  c = BitwiseNot(i)\n  b = Cast<to=1>(c)", ""),
    ),
    OpRule("Cast", first, free, _example("b = Cast<to=1>(a)", "")),
    OpRule("CastLike", first, free, _example("b = CastLike(a, x)", "")),
    OpRule("Identity", first, free, _example("b = Identity(a)", "")),
    OpRule("Dropout", first, free, _example("b = Dropout(a)", "")),
)
