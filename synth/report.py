"""Figures of a report: overhead of sparsity, share of its units, differences to an older report; tables of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from synth.measure import CLOCK, FPGA
from synth.units import TOP

Report = dict[str, Any]
Row = tuple[str, ...]

SPARSITY = (
    "CsbDecoder",
    "Exploration",
    "VisitRule",
    "Regenerate",
    "Balancer",
    "QuantileEstimator",
    "CsbEncoder",
    "WeightUpdate",
    "LaneTally",
    "RecordParser",
)
"""Units that a sparse build has for its sparsity, or has to do more in: their share is reported one by one."""

FPGA_COLUMNS = ("lut", "carry", "ff", "dsp", "bram", "dram")
MEMORY = "memory_bits"


def targets(report: Report) -> list[str]:
    """Cell libraries of a report."""
    return list(report["libraries"])


def overhead(preset: Mapping[str, Any], target: str, kind: str) -> float | None:
    """Sparse over dense top level, minus one; None unless both were measured."""
    try:
        sparse, dense = (preset[build][TOP]["all"][target][kind] for build in ("sparse", "dense"))
    except KeyError:
        return None
    return float(sparse / dense - 1)


def shares(preset: Mapping[str, Any], target: str) -> dict[str, float]:
    """Area of the units of `SPARSITY` with all that is in them, all instances, as shares of the dense top level."""
    try:
        whole = preset["dense"][TOP]["all"][target]["area"]
        units = preset["sparse"]
    except KeyError:
        return {}
    return {
        name: units[name]["instances"] * units[name]["all"][target]["area"] / whole
        for name in SPARSITY
        if name in units and target in units[name]["all"]
    }


def summary(report: Report) -> dict[str, Any]:
    """What the targets of the project are about, by preset."""
    found: dict[str, Any] = {}
    for name, preset in report["presets"].items():
        entry: dict[str, Any] = {"overhead": {}, "shares": {}}
        for target in targets(report):
            over = overhead(preset, target, "area")
            if over is not None:
                entry["overhead"][target] = round(over, 4)
                entry["shares"][target] = {unit: round(share, 4) for unit, share in shares(preset, target).items()}
        over = overhead(preset, FPGA, "lut")
        if over is not None:
            entry["overhead"][FPGA] = round(over, 4)
        found[name] = entry
    return found


def _builds(report: Report) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, preset in report["presets"].items():
        for build in ("sparse", "dense"):
            if build in preset:
                yield name, build, preset[build]


def cell_rows(target: str, units: Mapping[str, Any]) -> list[Row]:
    """Units in standard cells, the largest in all first."""
    whole = units[TOP]["all"][target]["area"]
    rows: list[Row] = []
    largest_first = sorted(units, key=lambda name: -units[name]["instances"] * units[name]["all"][target]["area"])
    for name in largest_first:
        unit = units[name]
        one, own = unit["all"][target], unit["own"][target]["area"]
        bits = sum(unit["all"].get(MEMORY, {}).values())
        rows.append(
            (
                name,
                str(unit["instances"]),
                f"{one['area']:,.0f}",
                f"{one['ge']:,.0f}",
                f"{one['sequential'] / one['area']:.0%}" if one["area"] else "–",
                f"{unit['instances'] * one['area'] / whole:.1%}",
                f"{unit['instances'] * own / whole:.1%}",
                f"{bits:,.0f}",
            )
        )
    return rows


def fpga_rows(units: Mapping[str, Any]) -> list[Row]:
    """Units on ECP5, one instance with all that is in it; the clock where it was measured."""
    rows: list[Row] = []
    for name in sorted(units, key=lambda name: -units[name]["instances"] * units[name]["all"][FPGA]["lut"]):
        unit = units[name]
        row = [name, str(unit["instances"]), *(f"{unit['all'][FPGA][kind]:,.0f}" for kind in FPGA_COLUMNS)]
        rows.append(tuple(row))
    return rows


def clock_rows(units: Mapping[str, Any]) -> list[Row]:
    """Units that were placed and routed, the slowest first."""
    measured = {name: unit[CLOCK] for name, unit in units.items() if CLOCK in unit}
    reached = sorted((name for name in measured if "mhz" in measured[name]), key=lambda name: measured[name]["mhz"])
    rows: list[Row] = []
    for name in reached:
        clock = measured[name]
        path = clock["path"]
        way = f"{path['from']} → {path['to']}" if path else "–"
        rows.append(
            (
                name,
                clock["device"],
                f"{clock['mhz']:.1f}",
                f"{clock['min']:.1f} – {clock['max']:.1f} ({clock['seeds']})",
                way,
                f"{path['logic_ns']:.1f} + {path['routing_ns']:.1f}" if path else "–",
                ", ".join(path.get("memories", [])) or "–",
            )
        )
    rows += [(name, "–", "–", "–", measured[name]["error"], "–", "–") for name in measured if "error" in measured[name]]
    return rows


def path_rows(found: Mapping[str, Any]) -> list[Row]:
    """Paths from memory to memory; those with the same ends in one row."""
    ends: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for path in found["paths"]:
        ends.setdefault((path["from"], path["read"], path["to"]), []).append(path)
    return [
        (
            source,
            read,
            end,
            ", ".join(p["input"] for p in paths),
            ", ".join({w: None for p in paths for w in p["within"]}),
        )
        for (source, read, end), paths in ends.items()
    ]


CELL_HEAD = ("unit", "×", "area, µm²", "GE", "sequential", "of all", "of all, own", "memory bits")
FPGA_HEAD = ("unit", "×", "LUT4", "carry", "FF", "MULT18", "block RAM", "distributed RAM")
CLOCK_HEAD = ("unit", "device", "MHz", "range (seeds)", "critical path", "logic + routing, ns", "memories on it")
PATH_HEAD = ("from memory", "read", "to memory", "inputs", "meet in")
SHARE_HEAD = ("preset", "what", "target", "share")
_TEXT = {"critical path", *PATH_HEAD}
DELTA_HEAD = ("preset, build", "unit", "target", "before", "now", "change")


def tables(report: Report) -> list[tuple[str, Row, list[Row]]]:
    """All tables of a report: title, head, rows."""
    found: list[tuple[str, Row, list[Row]]] = []
    for preset, build, units in _builds(report):
        for target in targets(report):
            if target in units[TOP]["all"]:
                found.append((f"{preset}, {build}, {target}", CELL_HEAD, cell_rows(target, units)))
        if MEMORY in units[TOP]["all"]:
            bits = units[TOP]["all"][MEMORY]
            rows: list[Row] = [(kind, f"{count:,.0f}") for kind, count in sorted(bits.items(), key=lambda kv: -kv[1])]
            found.append((f"{preset}, {build}, memories", ("kind", "bits"), rows))
        if FPGA in units[TOP]["all"]:
            found.append((f"{preset}, {build}, ECP5", FPGA_HEAD, fpga_rows(units)))
        clocks = clock_rows(units)
        if clocks:
            found.append((f"{preset}, {build}, clock on ECP5", CLOCK_HEAD, clocks))
        between = report["presets"][preset].get("memory_paths", {}).get(build)
        if between is not None:
            count = f"{len(between['paths'])} paths, {between['through']} through a memory"
            found.append((f"{preset}, {build}, memory to memory: {count}", PATH_HEAD, path_rows(between)))
    rows = []
    for preset, entry in report["summary"].items():
        rows += [(preset, "sparse over dense", target, f"{over:+.1%}") for target, over in entry["overhead"].items()]
        for target, by_unit in entry["shares"].items():
            rows += [(preset, unit, target, f"{share:.1%}") for unit, share in by_unit.items()]
    if rows:
        found.append(("Logic for sparsity, in shares of the dense top level", SHARE_HEAD, rows))
    return found


def deltas(new: Report, old: Report) -> list[Row]:
    """What differs between two reports, where both measured the same."""
    rows: list[Row] = []
    for preset, build, units in _builds(new):
        before = old.get("presets", {}).get(preset, {}).get(build, {})
        for name, unit in units.items():
            for target, kind in [*((t, "area") for t in targets(new)), (FPGA, "lut"), (FPGA, "ff"), (FPGA, "bram")]:
                was = before.get(name, {}).get("all", {}).get(target, {}).get(kind)
                now = unit["all"].get(target, {}).get(kind)
                if was is not None and now is not None and was != now:
                    change = f"{now / was - 1:+.1%}" if was else "new"
                    rows.append((f"{preset}, {build}", name, f"{target} {kind}", f"{was:,.0f}", f"{now:,.0f}", change))
            was, now = (entry.get(CLOCK, {}).get("mhz") for entry in (before.get(name, {}), unit))
            if was is not None and now is not None and was != now:
                change = f"{now / was - 1:+.1%}"
                rows.append((f"{preset}, {build}", name, "clock, MHz", f"{was:.1f}", f"{now:.1f}", change))
        for name in sorted(before.keys() - units.keys()):
            rows.append((f"{preset}, {build}", name, "–", "there", "gone", "–"))
    return rows


def rich_table(title: str, head: Row, rows: Sequence[Row]) -> Table:
    """For the terminal."""
    table = Table(title=title, title_justify="left")
    for column, name in enumerate(head):
        text = column == 0 or name in _TEXT
        table.add_column(name, justify="left" if text else "right", no_wrap=column == 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def markdown(report: Report) -> str:
    """All tables, for a document."""
    lines = [", ".join(f"{tool} {number}" for tool, number in report["tools"].items()) + ".", ""]
    for title, head, rows in tables(report):
        lines += [f"**{title}**", "", _line(head), _line(["---"] * len(head)), *(_line(row) for row in rows), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
