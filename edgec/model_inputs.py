"""The concrete shape of every graph input: given, static, or deduced from a shared dim name."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgec.errors import UnsupportedError, UsageError

# Not saved with the model: which sizes a run fixed is a fact about the run, not the network.
_META = "edgec.input_shapes"


def fix_input_shapes(
    model: ir.Model, inputs: Mapping[str, tuple[int, ...]], subject: str = "model"
) -> None:
    """Record the sizes that the user gives for inputs; the graph keeps its symbolic dims.

    Args:
        model: Changed only in its `meta`.
        inputs: Input name → shape, every size at least 1.
        subject: Whom to name in an error.

    Raises:
        UsageError: An unknown input, another rank, a static dim of another size, a size below 1,
            or two sizes for one dim name.
    """
    known = {value.name: value for value in model.graph.inputs}
    for name, shape in inputs.items():
        if name not in known:
            raise UsageError(
                subject,
                f"has no input '{name}'",
                f"its inputs: {', '.join(map(_signature, model.graph.inputs)) or 'none'}",
            )
        _check_fits(known[name], tuple(shape), subject)
    model.meta[_META] = {name: tuple(shape) for name, shape in inputs.items()}
    _bindings(model, subject, model.meta[_META])


def given_shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """The shapes that `fix_input_shapes` has recorded, by input."""
    return dict(model.meta.get(_META, {}))


def input_shapes(
    model: ir.Model,
    default_batch: int = 1,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """The concrete shape of every graph input, in the graph's order.

    A given shape (in `inputs`, or else by `load(…, inputs=…)`) comes first. A dim name that a
    given shape fixes is fixed in every input. A symbolic first axis that is still open is the
    batch and takes `default_batch`.

    Raises:
        UsageError: A dim that nothing fixes.
        UnsupportedError: An input that is no tensor.
    """
    given = {**given_shapes(model), **(inputs or {})}
    bound = _bindings(model, "model", given)
    for value in model.graph.inputs:
        if value.shape is not None and len(value.shape) and value.name not in given:
            first = value.shape[0]
            if isinstance(first, ir.SymbolicDim) and first.value is not None:
                bound.setdefault(first.value, default_batch)
    return {
        value.name or "": given.get(value.name or "") or _resolve(value, bound, default_batch)
        for value in model.graph.inputs
    }


def is_symbolic(model: ir.Model) -> bool:
    """Whether some dimension of an input is symbolic."""
    return any(not isinstance(d, int) for value in model.graph.inputs for d in value.shape or ())


def other_shapes(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The same sizes, with every symbolic dimension (each name for itself) made larger by one.

    What is equal for both does not depend on these dimensions, for most operators.
    """
    sizes: dict[str, int] = {}
    changed = {}
    for value in model.graph.inputs:
        shape = list(shapes[value.name or ""])
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                name = str(dim.value) if dim.value is not None else f"{value.name}.{axis}"
                shape[axis] = sizes.setdefault(name, shape[axis] + 1)
        changed[value.name or ""] = tuple(shape)
    return changed


def _resolve(value: ir.Value, bound: Mapping[str, int], default_batch: int) -> tuple[int, ...]:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise UnsupportedError(
            f"input '{value.name}'", "is not a tensor", "export a model whose inputs are tensors"
        )
    if value.shape is None:
        raise UsageError(f"input '{value.name}'", "has no known rank", _remedy(value))
    sizes = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, int):
            sizes.append(dim)
        elif dim.value is not None and dim.value in bound:
            sizes.append(bound[dim.value])
        elif axis == 0:
            sizes.append(default_batch)
        else:
            raise UsageError(
                f"input '{value.name}'",
                f"nothing fixes its dim {axis} ('{dim.value or '?'}')",
                _remedy(value),
            )
    return tuple(sizes)


def _remedy(value: ir.Value) -> str:
    known = value.shape if value.shape is not None else (1, 3, 224, 224)
    usual = (1, 3, 224, 224) if len(known) == 4 else (1, *[128] * len(known))
    sizes = [d if isinstance(d, int) else usual[axis] for axis, d in enumerate(known)]
    return f"give its size, for instance: --input {value.name}={'x'.join(map(str, sizes))}"


def _signature(value: ir.Value) -> str:
    if value.shape is None:
        return f"{value.name}=?"
    dims = (str(dim) if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    return f"{value.name}={'x'.join(dims)}"


def _check_fits(value: ir.Value, shape: tuple[int, ...], subject: str) -> None:
    wrong = None
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        wrong = "every size must be a whole number of at least 1"
    elif value.shape is not None:
        if len(shape) != len(value.shape):
            wrong = f"it has {len(value.shape)} dims, not {len(shape)}"
        elif any(isinstance(d, int) and d != s for d, s in zip(value.shape, shape, strict=True)):
            wrong = "the model fixes other sizes"
    if wrong is not None:
        text = "x".join(map(str, shape)) or "()"
        raise UsageError(
            subject,
            f"the shape {text} does not fit input '{value.name}': {wrong}",
            f"it is declared as {_signature(value)}",
        )


def _bindings(
    model: ir.Model, subject: str, given: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Dim name → size, from the given shapes."""
    bound: dict[str, int] = {}
    for value in model.graph.inputs:
        for dim, size in zip(value.shape or (), given.get(value.name or "", ()), strict=False):
            if isinstance(dim, int) or dim.value is None:
                continue
            if bound.setdefault(dim.value, size) != size:
                raise UsageError(
                    subject,
                    f"the dim '{dim.value}' is given as {bound[dim.value]} and as {size}",
                    "give one size to every input that shares it",
                )
    return bound
