"""The command line as a program: what goes to stdout and stderr, signals, pipes, full disks."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result
from zoo import model_of

from edgec import bundle
from edgec.cli import main
from edgec.passes.quantize.formats import FORMATS

EDGEC = str(Path(sys.executable).with_name("edgec"))
ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
COMMANDS = tuple(main.commands)
NET = """
(float[N,3,8,8] x) => (float[N,10] y)
<float[16,3,3,3] w1, float[32,16,3,3] w2, float[32,10] w3>
{
  a = Conv<pads = [1,1,1,1]>(x, w1)
  b = Relu(a)
  c = Conv<pads = [1,1,1,1]>(b, w2)
  e = GlobalAveragePool(c)
  f = Flatten(e)
  y = Gemm(f, w3)
}
"""
PHASES = [
    "load", "analyse", "budget", "prune", "verify", "repair", "lower", "evaluate", "measure",
]  # fmt: skip
ODD_NAMES = ("[/c1]", ":smile:", "[bold]c2[/bold]", "\x1b[31mred", "two\nlines", "ünï ⇒ → 🙂")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a network, the same with odd names, and samples for it."""
    monkeypatch.chdir(tmp_path)
    for name, names in (("net", ("c1", "r1", "c2", "p", "f", "fc")), ("odd", ODD_NAMES)):
        model = ir.to_proto(model_of(NET, opset=17))
        for node, word in zip(model.graph.node, names, strict=True):
            node.name = word
        onnx.save(model, f"{name}.onnx")
    x = np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)
    np.savez("data.npz", x=x, labels=np.arange(12) % 10)
    return tmp_path


def run(command: str) -> Result:
    """A command in this process, which must succeed."""
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code == 0, result.output
    return result


def started(command: str, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([EDGEC, *shlex.split(command)], text=True, **pipes)


def finished(command: str, **options: Any) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command in a process of its own."""
    with started(command, **options) as process:
        out, err = process.communicate()
    return process.returncode, out or "", err or ""


# --- what is printed where -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (
            "build net.onnx --flops 0.5 --measure none -o out --json",
            {"path", "costs", "budgets", "groups", "repair", "cut", "artifact", "notes", "seconds"},
        ),
        ("build net.onnx --flops 0.5 --data data.npz -o out --json", {"accuracy", "latency"}),
        ("build net.onnx --flops 0.5 --dry-run --json", {"budgets", "costs"}),
        ("build net.onnx --flops 0.5 --measure none -o out --json --explain", {"groups"}),
        ("inspect net.onnx --json", {"inputs", "opset", "totals", "ops", "groups", "pinned"}),
        ("inspect odd.onnx --json", {"groups"}),
        ("explain net.onnx --channel c1:3 --json", {"channel", "steps", "pins", "group", "row"}),
        ("compare net.onnx odd.onnx --json", {"name", "samples", "max_abs", "snr_db"}),
        ("compare net.onnx odd.onnx --json --data data.npz", {"cosine"}),
        ("compare net.onnx odd.onnx --json --tensors --data data.npz", {"outputs", "tensors"}),
        ("quantize-scan net.onnx --data data.npz --json", {"rows", "floats", "method", "silent"}),
        ("quantize-scan net.onnx --method zd --size 0.5 --json", {"allocation"}),
        ("quantize-scan net.onnx --activations --data data.npz --json", {"resumed"}),
        ("targets --json", {"name", "title", "backends", "channel_grid", "precisions"}),
        ("passes --json", {"passes", "criteria", "repairs", "formats", "observers"}),
        ("doctor --json", {"part", "version", "state"}),
    ],
)
def test_json_is_one_document_on_stdout(command: str, keys: set[str], folder: Path) -> None:
    document = json.loads(run(command).stdout, parse_constant=lambda word: pytest.fail(word))
    assert keys <= (document[0] if isinstance(document, list) else document).keys()


@pytest.mark.parametrize(
    "command",
    [
        "build net.onnx --flops 0.5 --data data.npz -o out --explain",
        "inspect net.onnx",
        "explain net.onnx --channel c1:3",
        "compare net.onnx odd.onnx",
        "compare net.onnx odd.onnx --tensors",
        "quantize-scan net.onnx --data data.npz --bits 8 --max-drop 0.1",
        "targets",
        "passes",
        "doctor",
    ],
)
def test_what_no_person_reads_is_plain(command: str, folder: Path) -> None:
    code, out, err = finished(command)
    assert code == 0, err
    assert out.strip()
    for line in [*out.splitlines(), *err.splitlines()]:
        assert "\x1b" not in line
        assert line == line.rstrip()
    phases = re.findall(r"^ (\w+) ", err, re.MULTILINE)
    assert phases == (PHASES if command.startswith("build") else phases[:1])


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    text = run(f"{command} --help").stdout
    assert text.startswith(f"Usage: edgec {command}".rstrip())
    assert "-h, --help" in text
    assert run(f"{command} -h").stdout == text


def test_the_help_of_build_groups_its_options_and_names_every_format() -> None:
    text = run("build --help").stdout
    titles = re.findall(r"^(\w[^:\n]*):$", text, re.MULTILINE)
    assert titles[1:] == [
        "Pruning", "Quantisation", "Samples", "Target and measurement", "Result", "Other",
    ]  # fmt: skip
    assert all(word in text for word in FORMATS)
    options = [o for o in main.commands["build"].params if isinstance(o, click.Option)]
    for option in options:
        assert len(re.findall(rf"^ .*{option.opts[-1]}\b(?!-)", text, re.MULTILINE)) >= 1


def test_every_option_says_what_it_is() -> None:
    silent = [
        (name, option.name)
        for name, command in main.commands.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_no_command_shows_the_help() -> None:
    code, out, err = finished("")
    assert (code, out) == (2, "")
    assert err.startswith("Usage: edgec")


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = sorted(os.listdir(folder))
    result = run("build net.onnx --flops 0.5 --dry-run -o out")
    assert "asked 0.500" in result.stderr
    assert sorted(os.listdir(folder)) == before
    assert (
        CliRunner().invoke(main, shlex.split("build net.onnx --flops 0.01 --dry-run")).exit_code
        == 3
    )


def test_explain_shows_every_group_and_pin(folder: Path) -> None:
    text = run("build net.onnx --flops 0.5 --exclude c1 --measure none -o out --explain").stdout
    rows = {line.split()[0]: line.split(maxsplit=3) for line in text.splitlines()[1:4]}
    assert rows["c1"] == ["c1", "16", "16", "kept by --exclude"]
    assert int(rows["c2"][2]) < int(rows["c2"][1]) == 32
    assert rows["fc"] == ["fc", "10", "10", "is a graph output (output y)"]


def test_no_result_is_never_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever code underneath may end the program: without a result it is a failure."""
    monkeypatch.setattr("edgec.inspection.inspect", lambda *_, **__: sys.exit(0))
    result = CliRunner().invoke(main, ["inspect", "net.onnx"])
    assert result.exit_code == 1
    assert "without a result" in result.stderr


@pytest.mark.parametrize(
    "command", ["inspect missing.onnx --debug", "--debug inspect missing.onnx"]
)
def test_debug_shows_the_traceback(command: str) -> None:
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-2].startswith("error: missing.onnx")


def test_the_bundle_names_the_command(folder: Path) -> None:
    code, _, err = finished("build net.onnx --flops 0.5 --measure none -o out --json --debug")
    assert code == 0, err
    argv = bundle.read("out").manifest["argv"]
    assert argv == ["build", "net.onnx", "--flops", "0.5", "--measure", "none"]


def test_options_win_over_the_recipe(folder: Path) -> None:
    Path("recipe.toml").write_text('flops = 0.9\ncriterion = "l1"\nround_to = 4\n')
    command = "build net.onnx --recipe recipe.toml --flops 0.5 --dry-run --json"
    document = json.loads(run(command).stdout)
    assert document["budgets"][0]["asked"] == "0.5"
    assert document["criterion"] == "l1"


# --- names that try to be markup, and terminals that cannot show them ----------------------------


def test_odd_names_are_shown_as_they_are(folder: Path) -> None:
    text = run("inspect odd.onnx").stdout
    text += run("build odd.onnx --flops 0.5 --measure none -o out --explain").stdout
    text += run("explain odd.onnx --channel '[/c1]:3'").stdout
    assert "[/c1]" in text
    assert "[bold]c2[/bold]" in text
    assert "ünï ⇒ → 🙂" in text
    result = CliRunner().invoke(main, ["explain", "odd.onnx", "--channel", "\x1b[31mred:1"])
    assert "\\x1b[31mred" in result.stderr
    assert "\x1b" not in text + result.stderr


def test_a_terminal_without_unicode(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code, out, err = finished("inspect odd.onnx", env=environment)
    assert (code, err) == (0, "")
    assert "\\u21d2" in out


# --- signals, pipes, disks -----------------------------------------------------------------------

WITH_DATA = f"build {DIGITS}/digits.onnx --flops 0.4 --data {DIGITS}/calibration.npz -o a/b/out"
WITHOUT = f"build {DIGITS}/digits.onnx --flops 0.4 --measure standard -o a/b/out"


@pytest.mark.parametrize("package", ["numpy", "onnx", "edgec.build"])
def test_an_interrupt_while_libraries_load(package: str) -> None:
    """Python names each module as soon as it is imported."""
    names = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with started("--version", env=names) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split("|")[-1].strip() == package:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert "Traceback" not in rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "phase"),
    [(WITH_DATA, "load"), (WITH_DATA, "verify"), (WITHOUT, "lower")],
    ids=["analysing", "repairing", "measuring"],
)
def test_an_interrupted_build_leaves_nothing(
    number: int, command: str, phase: str, tmp_path: Path
) -> None:
    """The interrupt comes when the line of a phase is there, so in the one after it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with started(command, cwd=tmp_path, env=environment) as process:
        assert process.stderr is not None
        seen = ""
        while f" {phase} " not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in seen + err
    assert os.listdir(tmp_path) == ["scratch"]
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("kilobytes", [1, 8, 10])
def test_a_full_disk(kilobytes: int, folder: Path) -> None:
    """Where a file may not grow, the message says so and nothing is left."""
    before = sorted(os.listdir(folder))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))

    code, out, err = finished("build net.onnx --flops 0.9 --measure none -o out", preexec_fn=limit)
    assert (code, out) == (2, "")
    assert "File too large" in err
    assert "Traceback" not in err
    assert sorted(os.listdir(folder)) == before


def test_a_reader_that_goes_away(folder: Path) -> None:
    with started("inspect net.onnx --json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert err == ""
    assert process.returncode == 1


def test_a_device_that_is_full(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        code, _, err = finished("inspect net.onnx", stdout=full)
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_a_terminal_gets_a_clock_and_no_other_a_code(folder: Path) -> None:
    """Progress on a terminal moves; what stays is the same lines as elsewhere."""
    ours, theirs = os.openpty()
    with started("build net.onnx --flops 0.5 --measure none -o out", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        process.communicate()
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert b"\x1b[" in shown
    assert [phase for phase in PHASES if f" {phase} " in text] == PHASES[:-2]


def _read(terminal: int) -> bytes:
    """What a terminal has to show; nothing when its program has ended."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    """ONNX Runtime's own reporting leaves a file in the temporary folder when it starts."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    program = "import edgec, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "1"
    assert os.listdir(tmp_path) == []
