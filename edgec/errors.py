"""Every error edgec shows a user, drawn as a tree.

    EdgecError                  subject: fact; remedy           exit code
    ├── UsageError              wrong option, config, data, model file   2
    ├── BudgetError             the budget or a gate cannot be met       3
    ├── UnsupportedError        an operator or graph edgec cannot take   4
    ├── DeviceError             a device is unreachable or was lost      5
    ├── MeasurementError        a number that cannot be trusted          6
    ├── VerificationError       the result differs from what it must be  7
    └── LockError               a lock, cache or hash does not match     8

An error says three things: its *subject* (which file, node, option), the *fact* (what is so),
and the *remedy* (what to do next). The command line prints them and exits with `exit_code`;
it shows no traceback unless asked with `--debug`.
"""

from __future__ import annotations


class EdgecError(Exception):
    """An error for the user: a subject, a fact about it, and a remedy.

    Args:
        subject: What it is about: a file name, a node name, an option.
        fact: What is so, in one clause.
        remedy: What the user can do next. May span several lines.
    """

    exit_code = 1

    def __init__(self, subject: str, fact: str, remedy: str = "") -> None:
        self.subject = subject
        self.fact = fact
        self.remedy = remedy
        super().__init__(f"{subject}: {fact}" + (f"\n  {remedy}" if remedy else ""))


class UsageError(EdgecError):
    """A wrong option, recipe, model file or data file."""

    exit_code = 2


class BudgetError(EdgecError):
    """A budget that the graph cannot meet, or a gate that failed."""

    exit_code = 3


class UnsupportedError(EdgecError):
    """An operator, opset or graph that edgec or a target cannot take."""

    exit_code = 4


class DeviceError(EdgecError):
    """A device that is unreachable, or was lost during a job."""

    exit_code = 5


class MeasurementError(EdgecError):
    """A measurement that cannot be trusted."""

    exit_code = 6


class VerificationError(EdgecError):
    """A result that differs from what it has to equal."""

    exit_code = 7


class LockError(EdgecError):
    """A lock, a cache or a recorded hash that does not match."""

    exit_code = 8


def missing_extra(subject: str, package: str, extra: str) -> UsageError:
    """The error for an optional package that is not installed."""
    return UsageError(
        subject,
        f"needs the package '{package}', which is not installed",
        f"pip install 'edgec[{extra}]'",
    )
