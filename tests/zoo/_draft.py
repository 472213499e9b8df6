"""A network being drafted as ONNX text: names, declared weights, nodes with known shapes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Attribute = int | float | str | Sequence[int]


@dataclass(frozen=True)
class Feature:
    """A float value of the draft and its shape; rank 4 is [batch, channels, height, width]."""

    name: str
    shape: tuple[int, ...]

    @property
    def c(self) -> int:
        """Channels."""
        return self.shape[1]

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[2], self.shape[3]

    def with_c(self, c: int) -> tuple[int, ...]:
        """The shape with `c` channels instead."""
        return (self.shape[0], c, *self.shape[2:])


@dataclass(frozen=True)
class Line:
    """One node: what it defines, what it reads, its text."""

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    text: str


@dataclass
class Draft:
    """Collects nodes; `text` writes those that reach an output, and the weights they read."""

    rng: random.Random
    lines: list[Line] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    live: list[Feature] = field(default_factory=list)
    """Features a later layer may read again."""
    convs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    """Weights of plain same-size convolutions, for sharing: name and shape."""

    def weight(self, *shape: int) -> str:
        """A float weight to be drawn."""
        name = f"w{len(self.weights)}"
        self.weights[name] = f"float{list(shape)} {name}"
        return name

    def const(self, kind: str, values: int | float | Iterable[int | float]) -> str:
        """A constant: a scalar for a number, a vector for several."""
        name = f"k{len(self.weights)}"
        listed = [values] if isinstance(values, int | float) else list(values)
        size = "" if isinstance(values, int | float) else f"[{len(listed)}]"
        body = ", ".join(str(v) for v in listed)
        self.weights[name] = f"{kind}{size} {name} = {{{body}}}"
        return name

    def ints(self, *values: int) -> str:
        """A vector of int64, as shapes, axes and indices are."""
        return self.const("int64", values)

    def op(
        self, op_type: str, inputs: Sequence[Feature | str], *shape: int, **attributes: Attribute
    ) -> Feature:
        """Add a node with one output of the given shape."""
        return self.ops(op_type, inputs, [shape], **attributes)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[Feature | str],
        shapes: Sequence[tuple[int, ...]],
        **attributes: Attribute,
    ) -> list[Feature]:
        """Add a node with one output per shape."""
        names = tuple(x if isinstance(x, str) else x.name for x in inputs)
        base = f"v{len(self.lines)}"
        outs = [f"{base}_{i}" if len(shapes) > 1 else base for i in range(len(shapes))]
        args = ", ".join(f"{k} = {_literal(v)}" for k, v in attributes.items())
        call = f"{op_type}{f'<{args}>' if args else ''}({', '.join(names)})"
        self.lines.append(Line(tuple(outs), names, f"{', '.join(outs)} = {call}"))
        return [Feature(n, tuple(s)) for n, s in zip(outs, shapes, strict=True)]

    def reached(self, outputs: Sequence[Feature]) -> list[Line]:
        """The nodes that some output depends on, in order."""
        wanted = {f.name for f in outputs}
        kept = []
        for line in reversed(self.lines):
            if wanted.intersection(line.outputs):
                kept.append(line)
                wanted.update(line.inputs)
        return kept[::-1]

    def text(self, name: str, inputs: Sequence[Feature], outputs: Sequence[Feature]) -> str:
        """The draft as `zoo.model_of` reads it."""
        lines = self.reached(outputs)
        read = {name for line in lines for name in line.inputs}
        declared = ",\n ".join(self.weights[w] for w in self.weights if w in read)
        args = ", ".join(f"float{list(x.shape)} {x.name}" for x in inputs)
        results = ", ".join(y.name for y in outputs)
        body = "\n  ".join(line.text for line in lines)
        return f"{name} ({args}) => ({results})\n<{declared}>\n{{\n  {body}\n}}"


def _literal(value: Attribute) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int | float):
        return str(value)
    return str(list(value))
