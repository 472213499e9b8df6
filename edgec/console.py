"""How results and progress look in a terminal. stdout: the result. stderr: progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from edgec.budget import Metric, human, plural
from edgec.compare import Difference
from edgec.errors import EdgecError
from edgec.explanation import Explanation
from edgec.inspection import Inspection
from edgec.passes.quantize.bits import FLOAT
from edgec.report import Report, summary
from edgec.restoring import Restoration
from edgec.scanning import ScanReport
from edgec.tensors import TensorReport


def printer(file: IO[str] | None = None) -> Console:
    """A console that does not wrap or colour what is not read by a person at a terminal."""
    file = file or sys.stdout
    console = Console(file=file, highlight=False, soft_wrap=True, emoji=False)
    if not console.is_terminal:
        console = Console(
            file=file, highlight=False, soft_wrap=True, emoji=False, width=200, no_color=True
        )
    return console


def plain(text: str) -> str:
    """Text of a model or a file, to be shown as it is: no markup, no codes for the terminal."""
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))


def show_error(error: EdgecError) -> None:
    """Subject, fact and remedy, on stderr."""
    out = printer(sys.stderr)
    out.print(f"[bold red]error:[/bold red] {plain(error.subject)}: {plain(error.fact)}")
    for text in (error.remedy, *getattr(error, "__notes__", ())):
        for line in text.splitlines():
            out.print(f"  {plain(line.removeprefix('  '))}")


def show_line(text: str) -> None:
    """One line on stderr."""
    printer(sys.stderr).print(plain(text))


class PhaseLines:
    """Progress on stderr: one line a fact, with a clock that runs on a terminal."""

    def __init__(self) -> None:
        self.console = printer(sys.stderr)
        self._name = ""
        self._start = time.perf_counter()
        self._said = True
        self._live: Live | None = None

    def phase(self, name: str) -> None:
        """Begins a phase; ends the one before."""
        self.close()
        self._name, self._said, self._start = name, False, time.perf_counter()
        if self.console.is_terminal:
            spinner = Spinner("dots", text=f" {name} …")
            self._live = Live(spinner, console=self.console, transient=True)
            self._live.start()

    def say(self, text: str) -> None:
        """Prints a fact behind the name of the phase, with the seconds it took."""
        spent = time.perf_counter() - self._start
        clock = f"  {spent:.1f} s" if spent >= 1 else ""
        label = "" if self._said else self._name
        self._said = True
        self.console.print(f" [bold]{label:<10}[/bold]{plain(text)}[dim]{clock}[/dim]")

    def close(self) -> None:
        """Stops the clock."""
        if self._live is not None:
            self._live.stop()
            self._live = None


_METRICS: dict[Metric, str] = {
    "flops": "FLOPs", "macs": "MACs", "params": "params", "size": "weights",
}  # fmt: skip


def show_report(report: Report, console: Console) -> None:
    """The table of a build: original, result, kept. Of a dry run: what can be reached."""
    if report.costs.after is None:
        _show_feasibility(report, console)
        return
    table = _table("", "original", "edgec", "kept", "")
    before, after = report.costs.before, report.costs.after
    budgets = {b.metric: b for b in report.budgets}
    for metric, title in _METRICS.items():
        old, new = before.get(metric), after.get(metric)
        budget = budgets.get(metric)
        _row(
            table,
            title, human(old, metric), human(new, metric), f"{new / max(old, 1):.4f}",
            f"budget {budget.asked}" if budget else "",
        )  # fmt: skip
    old_file, new_file = report.file_bytes.before, report.file_bytes.after
    if new_file:
        kept = f"{new_file / max(old_file, 1):.4f}"
        _row(table, "file", human(old_file, "size"), human(new_file, "size"), kept, "")
    if report.accuracy is not None:
        a, b = report.accuracy.before, report.accuracy.after
        change = f"{100 * (b.value - a.value):+.2f} points"
        _row(
            table,
            a.name,
            f"{100 * a.value:.2f} %",
            f"{100 * b.value:.2f} %",
            change,
            f"{a.n} samples",
        )
    if report.latency is not None:
        pair = report.latency
        verdict = pair.comparison
        threads = plural(pair.b.threads, "thread")
        interval = f"{verdict.verdict}, 95 % interval {verdict.low:.3f}-{verdict.high:.3f}"
        for title, old_ms, new_ms, note in (
            ("latency p50", pair.a.p50_ms, pair.b.p50_ms, interval),
            ("latency p90", pair.a.p90_ms, pair.b.p90_ms, f"n {pair.b.n}, {threads}"),
        ):
            ratio = f"{verdict.ratio:.3f}" if title.endswith("p50") else ""
            _row(table, title, _ms(old_ms), _ms(new_ms), ratio, note)
    _print(table, console)
    facts = []
    if report.cut.differences:
        worst = f"{report.cut.worst:.1e}"
        facts.append(("proof", f"cut equals masked network: max. relative difference {worst}"))
    if report.quantised is not None:
        facts.append(("quantised", str(report.quantised)))
    if facts:
        console.print()
    for label, text in (*facts, *(("note", note) for note in report.notes)):
        console.print(f" {label:<11}{plain(text)}")
    if report.path is not None:
        console.print(f"\n [bold green]ok[/bold green]  {plain(str(report.path))}")


def _show_feasibility(report: Report, console: Console) -> None:
    table = _table("", "original", "smallest", "budget")
    for budget in report.budgets:
        bound = human(min(budget.bound, budget.original), budget.metric)
        _row(
            table, _METRICS[budget.metric], human(budget.original, budget.metric),
            human(budget.floor, budget.metric), bound,
        )  # fmt: skip
    _print(table, console)


def _ms(value: float | None) -> str:
    return "n too small" if value is None else f"{value:.3g} ms"


def show_decisions(report: Report, console: Console) -> None:
    """Every group: width before and after, and why; every pin; every layer that stays in floats."""
    table = _table("group", "channels", "kept", "why")
    for decision in report.decisions:
        _row(table, decision.name, str(decision.width), str(decision.kept), decision.reason)
    for pin in report.groups.pinned:
        where = f" ({pin.where})" if pin.where else ""
        _row(table, pin.name, str(len(pin.units)), str(len(pin.units)), pin.why + where)
    _print(table, console)
    if report.quantised is not None and report.quantised.summary.floats:
        console.print()
        rows(("in floats", "why"), list(report.quantised.summary.floats.items()), console)


def show_inspection(found: Inspection, console: Console, most: int = 12) -> None:
    """Operators, groups by the FLOPs they control, pins."""
    totals = found.totals
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in found.inputs.items())
    console.print(f" opset {found.opset} · {plain(shapes)} · {plain(summary(totals))}\n")
    table = _table("operator", "count", "MFLOPs", "share", "params")
    for row in found.ops:
        flops = "unknown" if row.flops is None else f"{row.flops / 1e6:.3f}"
        share = "" if row.flops is None else f"{100 * row.flops / max(totals.flops, 1):.1f} %"
        _row(table, row.op, str(row.count), flops, share, human(row.params, "params"))
    _print(table, console)
    if found.groups:
        console.print()
        table = _table("group", "channels", "removable", "MFLOPs held", "prunability")
        for group in found.groups[:most]:
            _row(
                table,
                group.name, str(group.channels), str(group.removable), f"{group.flops / 1e6:.3f}",
                f"{group.prunability:.3f}",
            )  # fmt: skip
        _print(table, console)
        if len(found.groups) > most:
            console.print(f" … {len(found.groups) - most} more (--json shows all)")
    if found.pinned:
        console.print()
        table = _table("pinned", "channels", "at", "why")
        for pin in found.pinned[:most]:
            _row(table, pin.name, str(pin.channels), pin.where, pin.why)
        _print(table, console)
        if len(found.pinned) > most:
            console.print(f" … {len(found.pinned) - most} more (--json shows all)")


def show_explanation(found: Explanation, console: Console, most: int = 40) -> None:
    """The coupling path of a channel, and its pins."""
    console.print(f" [bold]{plain(found.channel)}[/bold]")
    for step in found.steps[:most]:
        console.print(f"   → ({plain(step.via)}) → {plain(step.name)}:{step.index}")
    if len(found.steps) > most:
        console.print(f"   … {len(found.steps) - most} more (--json shows all)")
    for pin in found.pins:
        console.print(f" pinned: {plain(pin)}")
    if found.free:
        row = "" if found.row is None else f", row {found.row}: every row keeps the same count"
        console.print(f" free to cut, in the group of {plain(found.group)}{row}")


def show_differences(found: Sequence[Difference], console: Console) -> None:
    """The outputs of two models."""
    rows(
        ("output", "samples", "max abs", "max rel", "SNR", "cosine"),
        [
            (d.name, str(d.samples), f"{d.max_abs:.3e}", f"{d.max_rel:.3e}", _db(d.snr_db),
             f"{d.cosine:.6f}")
            for d in found
        ],
        console,
    )  # fmt: skip


def show_tensors(report: TensorReport, console: Console, most: int = 20) -> None:
    """The worst tensors of two models, and how many could not be compared."""
    rows(
        ("tensor", "of", "compared", "SNR", "cosine", "max abs", "max rel"),
        [
            (t.name, t.op, t.kind, _db(t.snr_db), f"{t.cosine:.6f}", f"{t.max_abs:.3e}",
             f"{t.max_rel:.3e}")
            for t in report.tensors[:most]
        ],
        console,
    )  # fmt: skip
    if len(report.tensors) > most:
        console.print(f" … {len(report.tensors) - most} better ones (--json shows all)")
    for names, words in (
        (report.only_first, "only in the first model"),
        (report.only_second, "only in the second model"),
        (report.reshaped, "of another shape"),
    ):
        if names:
            console.print(f" note     {plural(len(names), 'tensor')} {words}: {_some(names)}")


def show_restorations(found: Sequence[Restoration], console: Console, most: int = 20) -> None:
    """The quantised layers, that which would help most in floats first."""
    rows(
        ("layer in floats", "operator", "gain", "output SNR", "unrounded"),
        [
            (r.name, r.op, f"{r.gain_db:+.2f} dB", _db(r.snr_db), ", ".join(r.bypassed))
            for r in found[:most]
        ],
        console,
    )
    if len(found) > most:
        console.print(f" … {len(found) - most} that help less (--json shows all)")
    for row in [r for r in found[:most] if r.kept]:
        kept = "; ".join(f"{word} {why}" for word, why in row.kept.items())
        console.print(f" note     '{plain(row.name)}' stays rounded in part: {plain(kept)}")


def show_scan(found: ScanReport, console: Console) -> None:
    """Layers, the most sensitive first: damage for each width, and the bits that were chosen."""
    damages = found.scan.damages()
    layers = {layer.name: layer for layer in found.scan.layers}
    ranked = [*dict.fromkeys(row.layer for row in found.scan.rows), *found.scan.silent]
    widths = sorted({row.bits for row in found.scan.rows}, reverse=True)
    chosen = found.allocation
    lines = []
    for name in ranked:
        own = damages.get(name, {})
        cells = [f"{own[b]:.3e}" if b in own else "unknown" for b in widths]
        bits = [] if chosen is None else [_bits(chosen.bits[name])]
        params = human(layers[name].params, "params")
        lines.append((name, layers[name].op, params, *cells, *bits))
    titles = [f"{_bits(b)} damage" for b in widths]
    rows(
        ("layer", "operator", "params", *titles, *([] if chosen is None else ["chosen"])),
        lines,
        console,
    )
    if chosen is not None:
        cost = human(chosen.cost, "size") if found.cost == "bytes" else f"{chosen.cost:.3g} ms"
        console.print(f"\n chosen   {cost} in these layers · damage {chosen.damage:.3e}")
    if found.scan.resumed:
        console.print(f" note     {plural(found.scan.resumed, 'result')} from the file")
    for name, why in found.scan.silent.items():
        console.print(f" note     nothing is known of '{plain(name)}': {plain(why)}")


def _bits(bits: int) -> str:
    return "float" if bits == FLOAT else f"{bits} bits"


def _db(value: float) -> str:
    return "equal" if value == float("inf") else f"{value:.1f} dB"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(plain(name) for name in names[:most]) + (", …" if len(names) > most else "")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for number, title in enumerate(titles):
        table.add_column(title, justify="left", no_wrap=True, min_width=10 if number == 0 else None)
    return table


def _row(table: Table, *cells: str) -> None:
    """Adds a row whose cells are shown as they are."""
    table.add_row(*(plain(cell) for cell in cells))


def _print(table: Table, console: Console) -> None:
    """Prints a table without the blanks that pad its lines."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")


def rows(titles: Sequence[str], lines: Sequence[Sequence[str]], console: Console) -> None:
    """A plain table."""
    table = _table(*titles)
    for line in lines:
        _row(table, *line)
    _print(table, console)
