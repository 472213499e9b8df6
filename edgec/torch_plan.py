"""Replays a plan on the nn.Module that was exported: the same cut, trainable.

The plan's weights are named as the module's parameters and buffers are, for `torch.onnx.export`
keeps their names. Each is sliced; then every module whose attributes say how wide it is gets them
from its new weights, by a table of torch's own layers. Sizes that a `forward` spells out, no plan
can change: give `example`, and the smaller module is tried on it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.document import read_json
from edgec.errors import UnsupportedError, UsageError, missing_extra
from edgec.patterns import taken
from edgec.plan import Plan, Weight

if TYPE_CHECKING:
    from torch import Tensor, nn


def apply(
    module: nn.Module,
    plan: Plan | Mapping[str, Any] | str | Path,
    *,
    example: Any = None,
    in_place: bool = False,
) -> nn.Module:
    """The module without the channels that a plan removes from the network it was exported to.

    The weights that stay are the module's own. The outputs are those of the pruned network before
    any repair (`--repair none`); the smaller module can be trained on.

    Args:
        module: The module as it was exported: the same names, the same sizes.
        plan: A plan, the content of a `plan.json`, or the path of one.
        example: An input (or a tuple of them, or a dict by argument names) that the smaller module
            is run on once, in eval mode.
        in_place: Change `module` itself, whose parameters stay the same objects. Otherwise a copy
            is changed.

    Returns:
        The smaller module.

    Raises:
        UsageError: The plan is no plan, or one of another module.
        UnsupportedError: A weight cannot be cut by slicing it, a layer cannot have the new sizes,
            or a submodule does not run with them.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise missing_extra("edgec.torch_plan.apply", "torch", "torch") from None
    weights = _read(plan).weights
    smaller = module if in_place and example is None else copy.deepcopy(module)
    _cut(smaller, weights)
    if example is not None:
        _try(smaller, example)
        if in_place:
            _cut(module, weights)
    return module if in_place else smaller


def _read(plan: Plan | Mapping[str, Any] | str | Path) -> Plan:
    if isinstance(plan, Plan):
        return plan
    return Plan.from_json(plan if isinstance(plan, Mapping) else read_json(Path(plan)))


def _cut(module: nn.Module, weights: tuple[Weight, ...]) -> None:
    """Slices all weights, or changes nothing."""
    import torch

    from edgec.torch_widths import widths_of

    named: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    _check(module, weights, named)
    sliced: dict[str, Tensor] = {}
    for weight in weights:
        subject, old = f"plan: weight '{weight.name}'", named[weight.name]
        # Positions, not values, go through numpy, which does not have every type.
        positions = torch.arange(old.numel()).reshape(old.shape).numpy()
        kept = torch.from_numpy(taken(positions, weight.slices, subject)).to(old.device)
        sliced[weight.name] = old.detach().flatten()[kept]
    shapes = {id(named[name]): tuple(new.shape) for name, new in sliced.items()}
    slices = {id(named[weight.name]): weight.slices for weight in weights}
    widths = list(widths_of(module, shapes, slices))
    for name, new in sliced.items():
        named[name].data = new
        named[name].grad = None
    for part, attributes in widths:
        vars(part).update(attributes)
        if isinstance(part, torch.nn.RNNBase):
            part.flatten_parameters()


def _check(module: nn.Module, weights: tuple[Weight, ...], named: Mapping[str, Tensor]) -> None:
    kind = type(module).__name__
    unknown = [weight.name for weight in weights if weight.name not in named]
    if unknown:
        raise UsageError(
            "plan",
            f"cuts '{unknown[0]}', which {kind} does not have"
            + (f", nor {len(unknown) - 1} more" if unknown[1:] else ""),
            "prune the very module: edgec reads .pt2 files and package.module:factory, and files "
            "of torch.onnx.export(dynamo=True, optimize=False)",
        )
    for weight in weights:
        if weight.why:
            raise UnsupportedError(
                weight.name, f"cannot be sliced: {weight.why}", "replay the plan by hand"
            )
        shape = tuple(named[weight.name].shape)
        for one in weight.slices:
            if one.axis >= len(shape) or shape[one.axis] != one.size:
                raise UsageError(
                    f"plan: weight '{weight.name}'",
                    f"has size {one.size} on axis {one.axis}, that of {kind} has {list(shape)}",
                    "apply the plan to the module that was pruned, once",
                )


def _try(module: nn.Module, example: Any) -> None:
    """Runs the module once; names the innermost submodule that fails."""
    import torch

    entered: list[str] = []
    handles = []
    for name, part in module.named_modules():
        kind = f"{name or 'forward'} ({type(part).__name__})"
        handles.append(part.register_forward_pre_hook(lambda *_, kind=kind: entered.append(kind)))
        handles.append(part.register_forward_hook(lambda *_: entered.pop() and None))
    args = () if isinstance(example, Mapping) else example
    args = args if isinstance(args, tuple) else (args,)
    kwargs = dict(example) if isinstance(example, Mapping) else {}
    try:
        with _evaluating(module), torch.no_grad():
            module(*args, **kwargs)
    except Exception as error:  # the user's code
        raise UnsupportedError(
            entered[-1] if entered else type(module).__name__,
            f"does not run with the new sizes: {str(error).splitlines()[0]}",
            "its code spells out a size: let it follow the shapes of its weights or inputs",
        ) from error
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was in training:
            part.training = was
