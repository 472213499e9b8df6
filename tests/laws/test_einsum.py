"""The laws over random equations of Einsum, between heads that keep their own channels."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import onnx_ir as ir
import pytest
from zoo import model_of

from laws import obey

_SIZES = {"b": 2, "t": 5, "h": 3, "d": 4, "e": 6, "u": 7}


def _shape(letters: Sequence[str]) -> list[int]:
    return [_SIZES[letter] for letter in letters]


def einsum_of(seed: int) -> ir.Model:
    """Two tensors of heads, or one and a weight, in any order of axes, summed over any of them."""
    rng = random.Random(seed)
    weights, lines = [], []

    def heads(name: str) -> str:
        axes = rng.sample("bthd", 4)
        perm = ["bthd".index(a) for a in axes]
        weights.append(f"float[6,12] w{name}")
        lines.append(f"m{name} = MatMul(x, w{name})  r{name} = Reshape(m{name}, heads)")
        source = f"r{name}"
        if rng.random() < 0.3:  # one pattern for all heads
            weights.append(f"float[4] s{name}")
            lines.append(f"c{name} = Mul(r{name}, s{name})")
            source = f"c{name}"
        lines.append(f"{name} = Transpose<perm={perm}>({source})")
        return "".join(axes)

    def weight(name: str) -> str:
        axes = rng.sample("thdeu", rng.randint(1, 4))
        weights.append(f"float{_shape(axes)} {name}")
        return "".join(axes)

    operands = [("p", heads("p")), ("q", rng.choice((heads, weight))("q"))]
    rng.shuffle(operands)
    letters = [a for a in dict.fromkeys("".join(term for _, term in operands)) if a != "b"]
    result = "b" + "".join(rng.sample(letters, rng.randint(1, len(letters))))
    equation = ",".join(term for _, term in operands)
    inputs = ", ".join(name for name, _ in operands)
    lines.append(f'z = Einsum<equation="{equation}->{result}">({inputs})')
    read = rng.choice(result[1:])
    if rng.random() < 0.5:
        weights.append(f"float[{_SIZES[read]},8] v")
        last = result.replace(read, "v")
        lines.append(f'y = Einsum<equation="{result},{read}v->{last}">(z, v)')
    else:
        flat = math.prod(_shape(result[1:]))
        weights.append(f"int64[2] flat = {{2, {flat}}}, float[{flat},8] v")
        lines.append("f = Reshape(z, flat)  y = MatMul(f, v)")
    declared = ", ".join(["int64[4] heads = {2,5,3,4}", *weights])
    model: ir.Model = model_of(f"(float[2,5,6] x) => (y) <{declared}> {{ {' '.join(lines)} }}")
    return model


@pytest.mark.parametrize("seed", range(48))
def test_random_equation(seed: int) -> None:
    obey(einsum_of(seed), seed, draws=2)


@pytest.mark.parametrize("seed", range(48))
def test_random_equation_that_loses_heads(seed: int) -> None:
    obey(einsum_of(seed), seed, draws=2, drop_heads=["*"])


def test_most_equations_leave_something_to_cut() -> None:
    free = [obey(einsum_of(seed), draws=1).groups > 0 for seed in range(48)]
    assert sum(free) > 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(48, 600))
def test_many_random_equations(seed: int) -> None:
    obey(einsum_of(seed), seed, draws=2, drop_heads=["*"] if seed % 2 else ())
