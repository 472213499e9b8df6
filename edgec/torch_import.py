"""PyTorch in: a `.pt2` of torch.export, or a function that makes an nn.Module.

Both go through the exporter's own `onnx_ir.Model`, with no file between. The exporter's optimiser
stays off: it would fold BatchNormalization away, and pruning and repair need its statistics. Only
its constant folding runs.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from edgec.errors import UnsupportedError, UsageError, missing_extra
from edgec.user_code import find_function, running


def from_archive(path: Path, subject: str) -> ir.Model:
    """The network of a `.pt2` file, without unpickling or evaluating anything that is in it.

    Raises:
        UsageError: The file is no such archive, or torch is not installed.
        UnsupportedError: It holds Python objects, compiled code or operators outside of ONNX.
    """
    _require_torch(subject)
    from edgec.torch_archive import read_program

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            subject, f"cannot be read: {error.strerror}", "check its rights"
        ) from error
    with _silence():
        program = read_program(content, subject)
    return _export(subject, program, ())


def from_factory(spec: str, inputs: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """The network that `package.module:factory` makes, traced in eval mode.

    Args:
        spec: Imported as `python -m` would: the working directory counts, after what is installed.
        inputs: Input name → shape, in the order of forward's arguments; or by their names.
            Traced in the floating type of the module's parameters.

    Raises:
        UsageError: It cannot be imported, fails, returns no nn.Module, or takes other inputs.
        UnsupportedError: ONNX cannot express it.
    """
    _require_torch(spec)
    import torch

    if not inputs:
        raise UsageError(spec, "the shapes of its inputs are not known", "--input x=1x3x224x224")
    for name, shape in inputs.items():
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            text = "x".join(map(str, shape))
            raise UsageError(
                spec, f"input '{name}' has the shape {text}", "every size must be at least 1"
            )
    factory = find_function(spec)
    with running(spec):
        module = factory()
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            spec,
            f"returned a {type(module).__name__}, not an nn.Module",
            "return the network itself, with its weights loaded",
        )
    module = module.cpu().eval()
    dtypes = (p.dtype for p in module.parameters() if p.is_floating_point())
    dtype = next(dtypes, torch.float32)
    examples = {name: torch.zeros(shape, dtype=dtype) for name, shape in inputs.items()}
    parameters = inspect.signature(module.forward).parameters
    if all(name in parameters for name in examples):
        return _export(spec, module, (), kwargs=examples, input_names=list(examples))
    return _export(spec, module, tuple(examples.values()), input_names=list(examples))


def _export(subject: str, program: Any, args: tuple[Any, ...], **options: Any) -> ir.Model:
    import torch

    with _silence():
        try:
            exported: Any = torch.onnx.export(
                program, args, dynamo=True, optimize=False, verbose=False, **options
            )
            model: ir.Model = exported.model
            _fold(model)
        except (Exception, SystemExit) as error:  # any operator's own, or the user's forward's
            reason: BaseException = error
            while reason.__cause__ is not None:
                reason = reason.__cause__
            text = (str(reason).splitlines() or [type(reason).__name__])[0][:200]
            raise UnsupportedError(
                subject,
                f"torch.onnx cannot export it: {type(reason).__name__}: {text}",
                "check that torch.onnx.export(net, args, dynamo=True) works, and see --debug",
            ) from error
    # The exporter notes where each node came from, with the paths of this machine.
    ClearMetadataAndDocStringPass()(model)
    for value in model.graph.initializers.values():
        if (tensor := value.const_value) is not None:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
    return model


def _fold(model: ir.Model) -> None:
    """What the exporter's optimiser does before its fusions: sizes to constants, chunk to Split.

    No parameter is folded, so that each keeps the name it has in the module.
    """
    from onnxscript import optimizer

    weights = set(model.graph.initializers.values())

    def should_fold(node: ir.Node) -> bool | None:
        keeps_weight = node.op_type not in ("Shape", "Size") and not weights.isdisjoint(node.inputs)
        return False if keeps_weight else None

    optimizer.fold_constants(model, should_fold=should_fold)
    optimizer.remove_unused_nodes(model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress, notes and warnings off the user's streams."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _require_torch(subject: str) -> None:
    for package in ("torch", "onnxscript"):
        if find_spec(package) is None:
            raise missing_extra(subject, package, "torch")
