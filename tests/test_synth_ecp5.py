"""ECP5: resources, devices, nextpnr's reports, and what is placed again."""

import itertools
import json
from pathlib import Path

import pytest

from arch.config import preset
from synth import ecp5, mapping, tools
from synth.errors import SynthError
from synth.units import Design, design

REPORT = {
    "fmax": {"clk": {"achieved": 61.237, "constraint": 100.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": []},
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {
                    "type": "clk-to-q",
                    "delay": 5.75,
                    "from": {"cell": "unit.sort.links.0.0"},
                    "to": {"cell": "unit.sort.links.0.0"},
                },
                {
                    "type": "routing",
                    "delay": 1.5,
                    "from": {"cell": "unit.sort.links.0.0"},
                    "to": {"cell": "unit.sort.begun_LUT4_A"},
                },
                {
                    "type": "logic",
                    "delay": 0.25,
                    "from": {"cell": "unit.sort.begun_LUT4_A"},
                    "to": {"cell": "unit.sort.begun_LUT4_A"},
                },
                {
                    "type": "setup",
                    "delay": 0.5,
                    "from": {"cell": "unit.sort.occupied_TRELLIS_FF_Q_133"},
                    "to": {"cell": "unit.sort.occupied_TRELLIS_FF_Q_133"},
                },
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def builds() -> dict[str, Design]:
    return {name: design(preset("tiny").with_(sparse=name == "sparse")) for name in ("sparse", "dense")}


def test_report_of_nextpnr() -> None:
    found = ecp5.parse_report(json.dumps(REPORT))
    assert found["mhz"] == 61.24
    assert found["path"] == {
        "from": "sort.links",
        "to": "sort.occupied",
        "via": ["sort.begun"],
        "logic_ns": 6.5,
        "routing_ns": 1.5,
        "memories": ["sort.links"],
    }


@pytest.mark.parametrize("text", ("{}", "no", '{"fmax": {"clk": {}}, "critical_paths": []}'))
def test_what_is_no_report(text: str) -> None:
    with pytest.raises(SynthError, match="not a report of nextpnr"):
        ecp5.parse_report(text)


def test_report_without_a_clock() -> None:
    with pytest.raises(SynthError, match="names no clock"):
        ecp5.parse_report('{"fmax": {}, "critical_paths": []}')


def test_a_pe_on_ecp5(builds: dict[str, Design]) -> None:
    built = builds["sparse"]
    text = mapping.source(built.netlist, built.unit("PE").module)
    found = ecp5.own(mapping.run(ecp5.FLOW, text, "PE")["cells"])
    assert found["dsp"] == 1
    # Two banks of gathered operands, stationary operands and partial sums each: in RAM, of either sort.
    cfg = preset("tiny")
    bits = 2 * (cfg.gather_depth * cfg.operand_bits + cfg.psum_depth * (cfg.delta_bits + cfg.acc_bits))
    assert found["bram"] * 18 * 1024 + found["dram"] * 64 >= bits
    assert found["ff"] < bits / 20


def test_what_does_not_fit_the_device() -> None:
    small = {"lut": 20.0, "carry": 2.0, "dram": 0.0, "bram": 3.0, "dsp": 1.0, "ff": 5.0}
    assert ecp5.device_for(small, "PE").name == "LFE5U-25F"
    assert ecp5.device_for({**small, "bram": 200.0}, "PE").name == "LFE5U-85F"
    with pytest.raises(SynthError, match="Row does not fit an LFE5U-85F: it needs 640 block RAMs of 208"):
        ecp5.device_for({**small, "bram": 640.0}, "Row")


def test_cells_of_another_device() -> None:
    with pytest.raises(SynthError, match="cells that ECP5 does not have: SB_LUT4"):
        ecp5.own({"LUT4": 2, "SB_LUT4": 1})


def test_seeds_are_placed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: dict[str, Design]) -> None:
    """Every seed runs in a folder of its own with the settings asked for, and only if no earlier run had both."""
    asked: list[tuple[str, ...]] = []
    cell = {"type": "TRELLIS_FF", "connections": {"Q": [2]}, "port_directions": {"Q": "output"}}
    pins = {pin + half: [3] for pin in "ABCD" for half in "01"} | {"CIN": ["0"], "COUT": [4], "S0": [5], "S1": [6]}
    chain = {
        "type": "CCU2C",
        "parameters": {"INIT0": "0", "INIT1": "0", "INJECT1_0": "NO", "INJECT1_1": "NO"},
        "connections": pins,
        "port_directions": {pin: "output" if pin in ("COUT", "S0", "S1") else "input" for pin in pins},
    }
    netlist = {"modules": {"harness": {"ports": {}, "cells": {"one": cell, "two": cell, "sum": chain}}}}

    def yosys(script: list[str], folder: Path) -> None:
        assert any("harness" in line for line in script)
        (folder / "netlist.json").write_text(json.dumps(netlist))

    def nextpnr(options: list[str], folder: Path) -> None:
        given = dict(itertools.pairwise(options))
        mapped = json.loads((folder / given["--json"]).read_text())
        assert mapped["modules"]["harness"]["cells"]["sum"]["connections"]["CIN"] == ["x"], "chains are mended"
        seed = int(given["--seed"])
        asked.append((given["--seed"], given["--speed"], given["--router"], given.get("--placer-heap-critexp", "")))
        report = json.loads(json.dumps(REPORT))
        report["fmax"]["clk"]["achieved"] = 50.0 + seed * seed
        (folder / given["--report"]).write_text(json.dumps(report))

    monkeypatch.setenv("PROCRUSTES_SYNTH", str(tmp_path))
    monkeypatch.setattr(ecp5, "yosys", yosys)
    monkeypatch.setattr(ecp5, "nextpnr", nextpnr)
    monkeypatch.setattr(ecp5, "version", lambda _: "1")
    built = builds["sparse"]
    module = built.units["Exploration"].module

    def clock(seeds: int, settings: ecp5.Settings) -> dict[str, object]:
        return ecp5.place_and_route(built.netlist, module, "Exploration", range(1, seeds + 1), settings, jobs=2)

    plain, other = ecp5.Settings(), ecp5.Settings("router2", "timing", "8")
    found = clock(3, plain)
    assert (found["device"], found["seeds"]) == ("LFE5U-25F-6", 3)
    assert (found["min"], found["mhz"], found["max"]) == (51.0, 54.0, 59.0)
    assert sorted(asked) == [(str(seed), "6", "router1", "") for seed in (1, 2, 3)]
    asked.clear()
    assert clock(3, plain) == found and not asked
    assert clock(4, plain)["mhz"] == 56.5
    assert asked == [("4", "6", "router1", "")]
    asked.clear()
    assert clock(2, other)["device"] == "LFE5U-25F-8"
    assert sorted(asked) == [(str(seed), "8", "router2", "4") for seed in (1, 2)]

    def fails(options: list[str], folder: Path) -> None:
        if "--seed" in options and options[options.index("--seed") + 1] == "3":
            raise SynthError("nextpnr failed: no")
        nextpnr(options, folder)

    monkeypatch.setattr(ecp5, "nextpnr", fails)
    asked.clear()
    with pytest.raises(SynthError, match="nextpnr failed: no"):
        clock(5, other)
    assert sorted(seed for seed, *_ in asked) == ["4", "5"]
    monkeypatch.setattr(ecp5, "nextpnr", nextpnr)
    asked.clear()
    assert clock(5, other)["seeds"] == 5
    assert [seed for seed, *_ in asked] == ["3"], "what did not fail is kept"


COPIES = """
module unit(input clk, input d, input [7:0] x, output [7:0] q);
  row low (clk, d, x[3:0], q[3:0]);
  row high (clk, d, x[7:4], q[7:4]);
endmodule
module row(input clk, input d, input [3:0] x, output [3:0] q);
  KEEP reg copy;
  always @(posedge clk) copy <= d;
  assign q = x & {4{copy}};
endmodule
"""
"""Two equal registers."""


@pytest.mark.parametrize(("attribute", "left"), (("", 1), ("(* keep = 32'd1 *)", 2)))
def test_copies_that_are_kept(attribute: str, left: int, tmp_path: Path) -> None:
    (tmp_path / "unit.v").write_text(COPIES.replace("KEEP", attribute))
    tools.yosys([*mapping.READ, *ecp5.KEEP, *ecp5.FLOW.script], tmp_path)
    found = ecp5.own(mapping.local_cells((tmp_path / "stat.json").read_text(), "unit"))
    assert found["ff"] == left
