"""The names a user may rely on: Python's and the command line's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import edgec

NAMES = {
    "Budget",
    "EdgecError",
    "Recipe",
    "Report",
    "__version__",
    "build",
    "channel_groups",
    "inspect",
    "load",
    "remove_channels",
    "save",
    "torch_plan",
}
COMMANDS = {
    "build",
    "inspect",
    "explain",
    "compare",
    "quantize-scan",
    "targets",
    "passes",
    "doctor",
}
EDGEC = str(Path(sys.executable).with_name("edgec"))


def run(*command: str) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_public_names_are_exactly_these() -> None:
    """Adding a name is a decision: it lands here, in the README or docs, and in the changelog."""
    assert set(edgec.__all__) == NAMES
    assert {name for name in NAMES if not hasattr(edgec, name)} == set()


def test_public_names_are_on_their_page() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text()
    assert {name for name in NAMES if f"`edgec.{name}" not in page} == set()


def test_public_names_say_what_they_are() -> None:
    undocumented = [
        name for name in sorted(NAMES - {"__version__"}) if not getattr(edgec, name).__doc__
    ]
    assert undocumented == []


def test_help_lists_exactly_these_commands() -> None:
    listed = run(EDGEC, "--help").split("Commands:")[1]
    assert set(re.findall(r"^  (\S+)", listed, re.MULTILINE)) == COMMANDS


def test_version_option() -> None:
    assert run(EDGEC, "--version").split()[-1] == edgec.__version__


def test_import_is_light() -> None:
    """`import edgec` loads no library, and the optional ones are not loaded later either."""
    heavy = ("torch", "transformers", "PIL", "sklearn", "scipy", "tvm", "tensorrt")
    base = ("numpy", "onnx", "onnx_ir", "onnxruntime", "rich")
    program = f"import sys, edgec; print([m for m in {heavy + base!r} if m in sys.modules])"
    assert run(sys.executable, "-c", program).strip() == "[]"
    use = "for name in edgec.__all__: getattr(edgec, name)\nimport edgec.stages"
    program = f"import sys, edgec\n{use}\nprint([m for m in {heavy!r} if m in sys.modules])"
    assert run(sys.executable, "-c", program).strip() == "[]"
