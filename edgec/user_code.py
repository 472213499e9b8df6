"""Functions of the user's: how they are found, and what becomes of what they raise.

A function that ends the program (`sys.exit`) has failed too: a build that was ended by it has no
result, and must not look as if it had.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgec.errors import EdgecError, UsageError


def find_function(spec: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; importing runs the user's code.

    Raises:
        UsageError: It cannot be imported, is not there, or is not callable.
    """
    module, _, name = spec.partition(":")
    with _working_directory():
        try:
            found: Any = importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever the user's module raises
            raise UsageError(
                spec,
                f"cannot be imported: {_text(error)}",
                f"check that python -c 'import {module}' works",
            ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(spec, f"'{module}' has no '{name}'", "check the name")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(spec, "is not a function", "name a function")
    function: Callable[..., Any] = found
    return function


@contextmanager
def running(subject: str) -> Iterator[None]:
    """Whatever the user's code raises becomes a UsageError that names it."""
    try:
        with _working_directory():
            yield
    except EdgecError:
        raise
    except (Exception, SystemExit) as error:
        remedy = "it is your function; run it by itself, or with --debug, to see where"
        raise UsageError(subject, f"failed: {_text(error)}", remedy) from error


def _text(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the program with sys.exit({'' if error.code is None else error.code!r})"
    return f"{type(error).__name__}: {error}"


@contextmanager
def _working_directory() -> Iterator[None]:
    """Let modules in the working directory be found, after those that are installed."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        if here in sys.path:
            last = len(sys.path) - 1 - sys.path[::-1].index(here)
            del sys.path[last]
