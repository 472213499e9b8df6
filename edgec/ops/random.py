"""Random numbers. They are drawn in order, so whatever has a number drawn for it stays."""

from __future__ import annotations

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.rule import OpRule, Stop, per_output, silent

_DRAWN = Stop("random numbers are drawn for these channels one after the other")


RULES = (
    *(
        OpRule(
            op,
            silent,
            per_output(),
            between_convs(f"r = {op}<shape=[2,1,8,8], seed=1.0>()\n  b = Add(a, r)"),
        )
        for op in ("RandomNormal", "RandomUniform")
    ),
    *(
        OpRule(op, _DRAWN, per_output(), between_convs(f"r = {op}<seed=1.0>(a)\n  b = Add(a, r)"))
        for op in ("RandomNormalLike", "RandomUniformLike")
    ),
    OpRule(
        "Bernoulli",
        _DRAWN,
        per_output(),
        between_convs("p = Sigmoid(a)\n  r = Bernoulli<seed=1.0>(p)\n  b = Mul(a, r)"),
    ),
    OpRule(
        "Multinomial",
        _DRAWN,
        per_output(),
        between_gemms(
            "i = Multinomial<sample_size=8, seed=1.0>(a)\n  f = Cast<to=1>(i)\n  b = Mul(a, f)"
        ),
    ),
)
