"""Errors of the libraries underneath, in edgec's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import runner
from edgec.errors import BudgetError, EdgecError, UnsupportedError, UsageError
from edgec.feeds import sample_feeds


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Errors of the libraries inside become one that says what it was about.

    Args:
        subject: What fails: a model.

    Raises:
        UsageError: ONNX's checker, shape inference or ONNX Runtime finds the model invalid.
        UnsupportedError: ONNX Runtime fails on it, or there is not enough memory.
    """
    try:
        yield
    except MemoryError as error:
        raise UnsupportedError(
            subject,
            f"needs more memory than there is: {error}".rstrip(": "),
            "give smaller sizes with --input, or take a machine with more memory",
        ) from error
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        text = " ".join(str(error).split())
        if library == "onnx":
            raise UsageError(
                subject,
                f"is not valid ONNX: {text[:300]}",
                "onnx.checker.check_model(path, full_check=True) tells more; export it again",
            ) from error
        if library == "onnxruntime" and type(error).__name__ == "InvalidArgument":
            raise UsageError(
                subject,
                f"is not a valid model: {text.removeprefix('[ONNXRuntimeError] : ')[:300]}",
                "ONNX Runtime does not run it either; export it again",
            ) from error
        if library == "onnxruntime":
            raise UnsupportedError(
                subject,
                f"fails in ONNX Runtime: {text.removeprefix('[ONNXRuntimeError] : ')[:300]}",
                "check that ONNX Runtime runs the original model on such inputs",
            ) from error
        raise


@contextmanager
def diagnosed(model: ir.Model, subject: str) -> Iterator[None]:
    """When work on a model fails for no stated reason, finds out whether the model itself runs.

    Shapes that contradict each other pass every check until something is computed.

    Args:
        model: The model, as it was loaded.
        subject: Its name.

    Raises:
        EdgecError: The model does not run. Otherwise the failure inside is raised as it was.
    """
    try:
        with translated(subject):
            yield
    except BudgetError:  # contradictory shapes leave nothing to cut
        try:
            feeds = sample_feeds(model, None, 0, batch=1)
        except UsageError:  # there are no random values for it
            feeds = None
        if feeds is not None:
            _run(model, subject, feeds)
        raise
    except (EdgecError, OSError):
        raise
    except Exception:
        _run(model, subject, sample_feeds(model, None, 0, batch=1))
        raise


def _run(model: ir.Model, subject: str, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Runs a model as it is."""
    with translated(subject):
        names = [value.name or "" for value in model.graph.outputs]
        runner(model, list(feeds), names, optimise=False)(feeds)
