"""ECP5: what each module takes, and the clock that a unit or the top level reaches when it is placed and routed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from statistics import median
from typing import Any

from synth import cache, carry, chain_ends, floorplan
from synth.errors import SynthError
from synth.mapping import READ, UNIT, Flow, total
from synth.netlist import Netlist, Port
from synth.tools import NEXTPNR, YOSYS, nextpnr, version, workplace, yosys

FLOW = Flow("ecp5", (f"synth_ecp5 -top {UNIT}", "tee -q -o stat.json stat -json"))
"""One module, its children left out."""

KEEP = ("select -set kept a:keep w:* %i %ci1 t:$dff* %i", "setattr -set keep 1 @kept")
"""Registers with the attribute `keep` stay: copies near what they serve are equal, and flattened they would be one."""

GROUPS: dict[str, tuple[str, ...]] = {
    "lut": ("LUT4",),
    "carry": ("CCU2C",),
    "ff": ("TRELLIS_FF",),
    "dsp": ("MULT18X18D", "MULT9X9D"),
    "bram": ("DP16KD", "PDPW16KD"),
    "dram": ("TRELLIS_DPR16X4",),
}
"""What is counted, and the cells that it is: carry cells are two LUTs each, distributed RAM 16 words of 4 bits in six
(four, and the two that its write port displaces)."""

FREE = {"PFUMX", "L6MUX21", "$scopeinfo"}
"""Cells that come with the LUTs they join."""


@dataclass(frozen=True)
class Device:
    """Size of a device: LUTs (a carry cell takes two, a distributed RAM six), block RAMs, multipliers."""

    name: str
    option: str
    lut: int
    bram: int
    dsp: int


DEVICES = (
    Device("LFE5U-25F", "--25k", 24288, 56, 28),
    Device("LFE5U-45F", "--45k", 43848, 108, 72),
    Device("LFE5U-85F", "--85k", 83640, 208, 156),
)
PACKAGE, TARGET_MHZ = "CABGA381", 100
ROUTERS = ("router1", "router2")
FLOORPLAN = "floorplan"
_STATIC = ("--placer", "static")
PLACEMENTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "timing": ("--placer-heap-timingweight", "40", "--placer-heap-critexp", "4", "--placer-heap-beta", "0.75"),
    "static": _STATIC,
    FLOORPLAN: _STATIC,
}
"""Options of nextpnr's placers. The analytic one: its own, or nets of critical paths pulled together four times as
hard, and cells spread a little more. The electrostatic one, in which density is a charge: this alone, or with
multipliers and RAM blocks where `synth.floorplan` puts them."""

SPEEDS = ("6", "7", "8")


@dataclass(frozen=True)
class Settings:
    """How a unit is placed and routed: nextpnr's router, one of `PLACEMENTS`, and the speed grade (6 is slowest)."""

    router: str = ROUTERS[0]
    placement: str = "default"
    speed: str = SPEEDS[0]

    def changed(self) -> list[str]:
        """What differs from the defaults, for the cache's key; the speed grade is in it anyway."""
        default = Settings()
        return [
            value
            for value, usual in ((self.router, default.router), (self.placement, default.placement))
            if value != usual
        ]

    def options(self) -> list[str]:
        """Of nextpnr."""
        return ["--speed", self.speed, "--router", self.router, *PLACEMENTS[self.placement]]


_ALONE = 1.5
_ROOM = 0.6  # of a device that a unit may fill before the next larger one is taken


def own(cells: Mapping[str, int]) -> dict[str, float]:
    """Resources in counts of cells.

    Raises:
        SynthError: a cell that is none of the device's.
    """
    left = {name: count for name, count in cells.items() if name not in FREE}
    found = {group: float(sum(left.pop(name, 0) for name in names)) for group, names in GROUPS.items()}
    if left:
        raise SynthError(f"cells that ECP5 does not have: {', '.join(sorted(left))}")
    return found


def luts(resources: Mapping[str, float]) -> int:
    """LUTs that logic, carry chains and distributed RAM take, at least."""
    return int(resources["lut"] + 2 * resources["carry"] + 6 * resources["dram"])


def device_for(resources: Mapping[str, float], label: str) -> Device:
    """The smallest device with room to spare, or the largest one.

    Raises:
        SynthError: the largest one is too small; the message names need and bound.
    """

    def fits(device: Device, share: float) -> bool:
        return (
            luts(resources) <= share * device.lut
            and resources["bram"] <= share * device.bram
            and resources["dsp"] <= device.dsp
        )

    for device in DEVICES:
        if fits(device, _ROOM):
            return device
    largest = DEVICES[-1]
    if fits(largest, 1):
        return largest
    need = (
        ("LUTs", luts(resources), largest.lut),
        ("block RAMs", int(resources["bram"]), largest.bram),
        ("multipliers", int(resources["dsp"]), largest.dsp),
    )
    over = ", ".join(f"{count} {what} of {bound}" for what, count, bound in need if count > bound)
    raise SynthError(f"{label} does not fit an {largest.name}: it needs {over}")


def check_size(netlist: Netlist, root: str, mapped: Mapping[str, Mapping[str, float]], label: str) -> None:
    """See, before anything is flattened, that a module cannot be too large for the largest device.

    Modules mapped alone take up to `_ALONE` times the LUTs that they take together; block RAMs and multipliers do not
    change.

    Raises:
        SynthError: it is too large; the message names need and bound.
    """
    needed = total(netlist, root, mapped)
    device_for({**needed, **{kind: needed[kind] / _ALONE for kind in ("lut", "carry", "dram")}}, label)


def harness(ports: Sequence[Port]) -> str:
    """Verilog of `harness`: the module `unit` with a register at every port, fed and read out by shift registers.

    So all paths of the unit are between registers, and three pins do for any number of ports.
    """
    lines, connections, last = [], [], "sin"
    outputs = []
    for port in ports:
        plain = port.name.removeprefix("\\")
        if plain == "clk":
            connections.append(f".{port.name} (clk)")
            continue
        name = rf"\{'in' if port.direction == 'input' else 'out'}_{plain} "
        high = port.width - 1
        if port.direction == "input":
            lines.append(f"  reg [{high}:0] {name}; always @(posedge clk) {name}<= {{{name}, {last}}};")
            last = f"{name}[{high}]"
            connections.append(f".{port.name} ({name})")
        else:
            wire = rf"\to_{plain} "
            lines.append(f"  wire [{high}:0] {wire}; reg [{high}:0] {name}; always @(posedge clk) {name}<= {wire};")
            connections.append(f".{port.name} ({wire})")
            outputs.append(name)
    reading = ", ".join(outputs) or "1'b0"
    width = max(1, sum(port.width for port in ports if port.direction == "output"))
    return "\n".join(
        [
            "module harness(input clk, input sin, output sout);",
            *lines,
            f"  reg [{width - 1}:0] readout; always @(posedge clk) readout <= (readout << 1) ^ {{{reading}}};",
            f"  assign sout = readout[{width - 1}];",
            f"  {UNIT} unit ({', '.join(connections)});",
            "endmodule",
            "",
        ]
    )


def place_and_route(
    netlist: Netlist, name: str, label: str, seeds: Sequence[int], settings: Settings, jobs: int = 1
) -> dict[str, Any]:
    """Clock of a module with all that is in it, flattened: median and range over seeds, and the critical path.

    Args:
        netlist: the design.
        name: module in it.
        label: for the folder.
        seeds: of the placer.
        settings: of nextpnr.
        jobs: seeds at a time.

    Raises:
        SynthError: it does not fit the largest device, or a tool failed.
    """
    ports = netlist[name].ports
    text = netlist.verilog(name).replace(f"module {name}", f"module {UNIT}", 1) + "\n" + harness(ports)
    script = [READ[0], "hierarchy -top harness", *READ[2:], *KEEP, "synth_ecp5 -top harness -json netlist.json"]
    tools = [version(YOSYS), version(NEXTPNR), *script, carry.VERSION, chain_ends.VERSION]
    tools += [PACKAGE, settings.speed, str(TARGET_MHZ)]
    if settings.placement == FLOORPLAN:
        tools.append(floorplan.VERSION)
    key = cache.key("clock", *tools, *settings.changed(), text)
    known = cache.load(key) or {"runs": {}}
    missing = [seed for seed in seeds if str(seed) not in known["runs"]]
    if missing:
        with workplace(f"pnr-{label}") as folder:
            (folder / "unit.v").write_text(text)
            yosys(script, folder)
            mapped = json.loads((folder / "netlist.json").read_text())
            module = mapped["modules"]["harness"]
            carry.absorb(module)
            chain_ends.mend(module)  # after: what it leaves out may have had LUTs in front, which are gone by now
            resources = own(Counter(cell["type"] for cell in module["cells"].values()))
            device = device_for(resources, label)
            if settings.placement == FLOORPLAN:
                device = DEVICES[-1]
                floorplan.pin(module, device.name, label)
            (folder / "netlist.json").write_text(json.dumps(mapped))
            known |= {"device": device.name, "flat": resources}

            def route(seed: int) -> tuple[int, dict[str, Any]]:
                place = folder / str(seed)
                place.mkdir()
                options = [device.option, "--package", PACKAGE, *settings.options(), "--json", "netlist.json"]
                options += ["--freq", str(TARGET_MHZ), "--seed", str(seed), "--report", "report.json"]
                (place / "netlist.json").hardlink_to(folder / "netlist.json")
                nextpnr([*options, "--timing-allow-fail"], place)
                return seed, parse_report((place / "report.json").read_text())

            failure: SynthError | None = None
            with ThreadPoolExecutor(jobs) as pool:
                for done in as_completed([pool.submit(route, seed) for seed in missing]):
                    try:
                        seed, run = done.result()
                    except SynthError as error:
                        failure = error  # what other seeds have found is kept
                        continue
                    known["runs"][str(seed)] = run
                    cache.store(key, known)
            if failure is not None:
                raise failure
    runs = [known["runs"][str(seed)] for seed in seeds]
    reached = [run["mhz"] for run in runs]
    typical = min(runs, key=lambda run: abs(run["mhz"] - median(reached)))
    return {
        "device": f"{known['device']}-{settings.speed}",
        "seeds": len(runs),
        "mhz": median(reached),
        "min": min(reached),
        "max": max(reached),
        "path": typical["path"],
    }


def parse_report(report: str) -> dict[str, Any]:
    """Clock and critical path in nextpnr's JSON report.

    Raises:
        SynthError: it is no such report, or no clock is in it.
    """
    try:
        content = json.loads(report)
        clocks = content["fmax"]
        if not clocks:
            raise SynthError("nextpnr's report names no clock: the design has no path between registers")
        slowest = min(clocks, key=lambda clock: clocks[clock]["achieved"])
        paths = [p for p in content["critical_paths"] if p["from"] == p["to"] == f"posedge {slowest}"]
        path = _path(paths[0]["path"]) if paths else {}
        return {"mhz": round(clocks[slowest]["achieved"], 2), "path": path}
    except (KeyError, TypeError, ValueError) as error:
        raise SynthError(f"not a report of nextpnr: {error!r}") from None


def _path(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The path between two registers: by their names in the design, with delays in ns."""
    routing = sum(step["delay"] for step in steps if step["type"] == "routing")
    every = sum(step["delay"] for step in steps)
    cells = [steps[0]["from"]["cell"], *(step["to"]["cell"] for step in steps if step["type"] != "clk-to-q")]
    ends = register(cells[0]), register(cells[-1])
    between = dict.fromkeys(register(cell) for cell in cells if not cell.startswith("$"))
    return {
        "from": ends[0],
        "to": ends[1],
        "via": [name for name in between if name not in ends],
        "logic_ns": round(every - routing, 2),
        "routing_ns": round(routing, 2),
        "memories": list(dict.fromkeys(register(cell) for cell in cells if _MEMORY.search(cell))),
    }


_MEMORY = re.compile(r"(?:\.\d+){2,}(?:\$DPRAM\w*)?$")
_MADE = re.compile(r"_(?:TRELLIS_FF|MULT18X18D|LUT4|CCU2C|PFUMX|L6MUX21|D[IO][AB]?\d*_|CE[AB]?_|AD[AB]?\d*_|[A-D]_).*$")


def register(cell: str) -> str:
    """Name in the design of the register, memory or signal after which a cell of the netlist is named.

    >>> register("unit.sort.occupied_TRELLIS_FF_Q_133"), register("unit.sort.links.0.0")
    ('sort.occupied', 'sort.links')
    """
    name = re.sub(r"\$DPRAM\w*$", "", _MADE.sub("", cell))
    return re.sub(r"(?:\.\d+){2,}$", "", name).removeprefix("unit.")
