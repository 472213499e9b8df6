"""Between the commands and the shell: exit codes, one clear message, signals, closed pipes.

The exit codes are those of `edgec.errors`; 130 when interrupted.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from edgec import console
from edgec._environment import end_at_once
from edgec.errors import EdgecError, UsageError

_INTERNAL, _USAGE, _INTERRUPTED = 1, 2, 130
# What click raises to show its help, from 8.2 on; before, it just shows it.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show tracebacks, and what libraries log."
)


class Commands(click.Group):
    """A group of commands that ends every error in one message and its exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs a command line and exits."""
        words = next(iter(args), extra.get("args"))
        debug = "--debug" in (sys.argv if words is None else words)
        _print_whatever_comes()
        with _terminable(), _quiet(debug):
            sys.exit(self._run(debug, *args, **{**extra, "standalone_mode": False}))

    def _run(self, debug: bool, *args: Any, **extra: Any) -> int:
        """The exit code of a command line."""
        try:
            done = super().main(*args, **extra)
            sys.stdout.flush()
            return done if isinstance(done, int) else 0
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _explain(error)
        except SystemExit as error:
            if error.code:  # click and rich end so when the reader of our output has gone
                raise
            if debug:
                traceback.print_exc()
            fact = "was ended by code that it runs, without a result"
            console.show_error(EdgecError("edgec", fact, "--debug shows where; please report it"))
            return _INTERNAL
        except KeyboardInterrupt:
            console.show_line("interrupted")
            return _INTERRUPTED


class Sectioned(click.Command):
    """A command whose help lists its options under titles.

    Args:
        sections: Title → names of parameters; those in none follow under `Other`.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = {p.name: p.get_help_record(ctx) for p in options}
        named = {name for names in self.sections.values() for name in names}
        others = [name for name in records if name not in named]
        for title, names in (*self.sections.items(), ("Other", others)):
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := records[name])])


def _explain(error: Exception) -> int:
    """Prints what an exception means to the user; the exit code."""
    if isinstance(error, EdgecError):
        console.show_error(error)
        return error.exit_code
    if isinstance(error, click.Abort):
        console.show_line("interrupted")
        return _INTERRUPTED
    if isinstance(error, _NO_ARGUMENTS):
        error.show()
        return _USAGE
    if isinstance(error, click.ClickException):
        console.show_error(_usage(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone; nobody to tell
        sys.stdout = io.StringIO()
        return _INTERNAL
    if isinstance(error, MemoryError):
        console.show_error(
            EdgecError("memory", "ran out", "take a machine with more, or a smaller --input")
        )
        return _INTERNAL
    if isinstance(error, OSError) and error.errno is not None:
        where = f"file '{error.filename}'" if error.filename else "the file system"
        remedy = "free some space, or check the rights"
        console.show_error(UsageError(where, f"fails: {error.strerror}", remedy))
        return _USAGE
    fact = f"failed with {type(error).__name__}: {error}"
    remedy = "this is a defect; --debug shows where, please report it"
    console.show_error(EdgecError("edgec", fact, remedy))
    return _INTERNAL


def _usage(error: click.ClickException) -> UsageError:
    """An error of the command line's words, in the form that all errors have."""
    context = getattr(error, "ctx", None)
    command = "edgec" if context is None else context.command_path
    subject, fact = command, error.format_message()
    if isinstance(error, click.BadParameter) and error.param is not None:
        missing = isinstance(error, click.MissingParameter)
        subject = error.param.get_error_hint(context).strip("'")
        fact = "is missing" if missing else error.message
    return UsageError(subject, (fact[:1].lower() + fact[1:]).rstrip("."), f"see {command} --help")


@contextmanager
def _terminable() -> Iterator[None]:
    """A polite request to end (SIGTERM) cleans up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet(debug: bool) -> Iterator[None]:
    """Keeps what libraries log and warn of from the screen, unless asked for."""
    if debug or sys.warnoptions:
        yield
        return
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)


def _print_whatever_comes() -> None:
    """A terminal that cannot show a character shows its code instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
