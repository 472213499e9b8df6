"""Every fenced block of the README and of the API's page does what it says.

A block's tag says what becomes of it:

    bash, python    run, and must succeed
    console         its `$ ` lines run and must succeed (or end as `exit N` says); each line shown
                    below one must begin with a word that begins a line of what it prints now
    sh              set-up, run by `.ci/run` itself: must stand there, line by line
    text            shown only

The blocks of a page run in their order in one folder that holds the examples and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it starts, its tag, its text."""

    place: str
    tag: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a Markdown file, in order."""
    text = (ROOT / page).read_text()
    found = FENCE.finditer(text)
    return [
        Block(f"{page} line {text.count(chr(10), 0, m.start()) + 1}", m[1], m[2]) for m in found
    ]


PAGES = {page: blocks(page) for page in ("README.md", "docs/api.md")}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run in `folder` with the tested edgec first on PATH; stdout and stderr together."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "200", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def sessions(text: str) -> list[tuple[str, list[str], int]]:
    """The commands of a console block: each with the lines shown below it and its exit code."""
    parts = re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)
    assert parts[0].strip() == "", "a console block starts with its command"
    found = []
    for part in parts[1:]:
        command, *shown = part.splitlines()
        ends = re.fullmatch(r"exit (\d+)", shown[-1]) if shown else None
        found.append((command, shown[:-1] if ends else shown, int(ends[1]) if ends else 0))
    return found


def first_words(lines: list[str]) -> set[str]:
    """The word that begins each line; blank lines have none."""
    return {line.split()[0] for line in lines if line.strip()}


def follow(block: Block, folder: Path) -> None:
    """Run one block, and hold it to what it shows."""
    if block.tag == "console":
        for command, shown, code in sessions(block.text):
            ran = run(["bash", "-c", command], folder)
            assert ran.returncode == code, f"{block.place}: {command}\n{ran.stdout}"
            missing = first_words(shown) - first_words(ran.stdout.splitlines())
            assert missing == set(), f"{block.place}: {command}\n{ran.stdout}"
        return
    runner = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    ran = run([*runner[block.tag], block.text], folder)
    assert ran.returncode == 0, f"{block.place}\n{ran.stdout}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_known_tag(page: str) -> None:
    fences = (ROOT / page).read_text().count("\n```")
    assert fences == 2 * len(PAGES[page])
    assert {block.tag for block in PAGES[page]} <= {"bash", "python", "console", "sh", "text"}


def test_pages_have_the_blocks_they_are_for() -> None:
    assert {"python", "console", "sh"} <= {block.tag for block in PAGES["README.md"]}
    assert {block.tag for block in PAGES["docs/api.md"]} == {"python"}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_in_order(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in PAGES[page]:
        if block.tag not in ("sh", "text"):
            follow(block, tmp_path)


def test_ci_runs_the_set_up_commands() -> None:
    ran = [line.split("#")[0].strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    asked = [
        line.split("#")[0].strip()
        for block in PAGES["README.md"]
        if block.tag == "sh"
        for line in block.text.split("\n")
    ]
    asked = [line for line in asked if line]
    assert len(asked) == 2
    assert [line for line in ran if line in asked] == asked


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    paths = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert paths
    assert [path for path in paths if not (ROOT / page).parent.joinpath(path).exists()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ true\n", [("true", [], 0)]),
        ("$ a \\\n  b\n x 1\n y\n", [("a    b", [" x 1", " y"], 0)]),
        ("$ false\nwhy\nexit 3\n$ c\n", [("false", ["why"], 3), ("c", [], 0)]),
    ],
)
def test_sessions_reads_console_blocks(
    text: str, expected: list[tuple[str, list[str], int]]
) -> None:
    assert sessions(text) == expected


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("bash", "false\n"),
        ("python", "import no_such_module\n"),
        ("console", "$ false\n"),
        ("console", "$ true\nexit 3\n"),
        ("console", "$ echo one\ntwo\n"),
    ],
)
def test_a_block_that_lies_is_caught(tag: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="page line 7"):
        follow(Block("page line 7", tag, text), tmp_path)
