"""Synthesis: parsing, the list of units, errors, and one unit synthesised for real."""

import ast
import gzip
from pathlib import Path

import pytest

from arch.config import preset
from scripts import synth as command
from scripts.verilator import ROOT
from synth import cells, ecp5, liberty, mapping, memories, report, tools
from synth.errors import SynthError
from synth.netlist import Netlist, anonymous, unindexed
from synth.units import TOP, Design, design

LIBERTY = """
library (small) {
  cell (nand2_1) {
    area : 2.0;
    pin (A) { direction : input; }
  }
  cell ("dff_1") {
    area : "8.0"
    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
  }
}
"""


def _timing(pin: str) -> str:
    table = '(t) { index_1("0.1, 1"); index_2("0.1, 1"); values("0.1, 0.2", "0.2, 0.3"); }'
    kinds = ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    return f'timing() {{ related_pin : "{pin}"; timing_sense : negative_unate; {" ".join(k + table for k in kinds)} }}'


CELLS = f"""
library (tiny) {{
  delay_model : table_lookup;
  time_unit : "1ns";
  capacitive_load_unit (1.0, "pf");
  lu_table_template (t) {{
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1("0.1, 1"); index_2("0.1, 1");
  }}
  cell (inv) {{
    area : 1.0;
    pin (A) {{ direction : input; capacitance : 0.01; }}
    pin (Y) {{ direction : output; function : "!A"; {_timing("A")} }}
  }}
  cell (nand2) {{
    area : 2.0;
    pin (A) {{ direction : input; capacitance : 0.01; }}
    pin (B) {{ direction : input; capacitance : 0.01; }}
    pin (Y) {{ direction : output; function : "!(A & B)"; {_timing("A")} {_timing("B")} }}
  }}
  cell (nor2) {{
    area : 2.0;
    pin (A) {{ direction : input; capacitance : 0.01; }}
    pin (B) {{ direction : input; capacitance : 0.01; }}
    pin (Y) {{ direction : output; function : "!(A | B)"; {_timing("A")} {_timing("B")} }}
  }}
  cell (buf) {{
    area : 3.0;
    pin (A) {{ direction : input; capacitance : 0.01; }}
    pin (Y) {{ direction : output; function : "A"; {_timing("A")} }}
  }}
  cell (dff) {{
    area : 8.0;
    ff (IQ, IQN) {{ clocked_on : "C"; next_state : "D"; }}
    pin (C) {{ direction : input; clock : true; }}
    pin (D) {{ direction : input; }}
    pin (Q) {{ direction : output; function : "IQ"; }}
  }}
}}
"""

TWO_LEVELS = r"""
module \top.a.leaf (x, y);
  input x;
  wire x;
  output [3:0] y;
  wire [3:0] y;
  wire \t$7 ;
  assign \t$7 = x;
  assign y = { \t$7 , x, x, x };
endmodule

module \top.b.leaf (x, y);
  input x;
  wire x;
  output [3:0] y;
  wire [3:0] y;
  wire \t$19 ;
  assign \t$19 = x;
  assign y = { \t$19 , x, x, x };
endmodule

module \top.a (x, y);
  input x;
  wire x;
  output [3:0] y;
  wire [3:0] y;
  \top.a.leaf  leaf (
    .x(x),
    .y(y)
  );
endmodule

module top(x, y, z);
  input x;
  wire x;
  output [3:0] y;
  wire [3:0] y;
  output [3:0] z;
  wire [3:0] z;
  \top.a  \a$3  (
    .x(x),
    .y(y)
  );
  \top.b.leaf  b (
    .x(x),
    .y(z)
  );
endmodule
"""

STAT = """{
   "creator": "Yosys", "invocation": "stat -json ",
   "modules": {
      "\\\\unit": {
         "num_cells": 12, "num_submodules": 1, "area": 99.5,
         "num_cells_by_type": { "nand2_1": 4, "dff_1": 3, "$mem_v2": 1, "part_0": 2 }
      }
   },
   "design": { "num_cells": 12 }
}"""

DUMP = r"""
module \unit
  cell $mem_v2 \words$5
    parameter \MEMID "\\words"
    parameter \WIDTH 48
    parameter \SIZE 64
    parameter \RD_PORTS 1
    parameter \RD_CLK_ENABLE 1'1
    parameter \WR_PORTS 1
  end
  cell $mem_v2 \table
    parameter \WIDTH 8
    parameter \SIZE 16
    parameter \RD_PORTS 2
    parameter \RD_CLK_ENABLE 2'01
    parameter \WR_PORTS 0
  end
end
"""


@pytest.fixture(scope="module")
def builds() -> dict[str, Design]:
    return {name: design(preset("tiny").with_(sparse=name == "sparse")) for name in ("sparse", "dense")}


@pytest.fixture
def small_library(tmp_path: Path) -> liberty.Library:
    path = tmp_path / "small.lib"
    path.write_text(LIBERTY)
    return liberty.read("small", path)


def test_equal_modules_become_one() -> None:
    netlist = Netlist(TWO_LEVELS)
    assert set(netlist) == {r"\top.a.leaf", r"\top.a", "top"}
    assert netlist.instances() == {"top": 1, r"\top.a": 1, r"\top.a.leaf": 2}
    assert netlist[r"\top.a.leaf"].paths == ["top.a.leaf", "top.b"]
    assert netlist.below(r"\top.a") == [r"\top.a", r"\top.a.leaf"]
    assert [(port.name, port.width) for port in netlist[r"\top.a.leaf"].ports] == [("x", 1), ("y", 4)]
    assert netlist.verilog(r"\top.a").count("module ") == 2
    assert r"\top.b.leaf" not in netlist.verilog()


def test_modules_that_differ_stay_apart() -> None:
    for other in (r"assign \t$19 = ~x", r"assign \u$20 = x"):
        assert len(Netlist(TWO_LEVELS.replace(r"assign \t$19 = x", other))) == 4


def test_elements_of_arrays_are_no_bits() -> None:
    """ABC9 takes `\\ones[3]` for bit 3 of `\\ones`; selections of a bit stay."""
    text = "  wire [4:0] \\ones[3] ;\n  assign \\ones[3]  = ones[19:15];\n  assign \\a.b[0][12]  = \\a.b [3];\n"
    assert unindexed(text) == (
        "  wire [4:0] \\ones.3 ;\n  assign \\ones.3  = ones[19:15];\n  assign \\a.b[0].12  = \\a.b [3];\n"
    )
    module = f"module top (x);\n  input [31:0] x ;\n{text}endmodule\n"
    assert "\\ones[3]" not in Netlist(module)["top"].text


def test_the_harness_registers_every_port() -> None:
    text = ecp5.harness(Netlist(TWO_LEVELS)[r"\top.a"].ports)
    assert r"reg [0:0] \in_x ;" in text and r"reg [3:0] \out_y ;" in text
    assert r"unit unit (.x (\in_x ), .y (\to_y ));" in text


def test_a_netlist_without_its_top() -> None:
    with pytest.raises(ValueError, match="no module 'row' in the Verilog; it defines"):
        Netlist(TWO_LEVELS, "row")


def test_statistics(small_library: liberty.Library) -> None:
    counted = mapping.local_cells(STAT)
    assert counted == {"nand2_1": 4, "dff_1": 3, "$mem_v2": 1}
    own = cells.own(small_library, {"cells": counted})
    assert own == {"area": 32.0, "sequential": 24.0, "ge": 16.0, "cells": 7.0, "flip_flops": 3.0}
    with pytest.raises(SynthError, match=r"2 cells \$add were not mapped to small"):
        cells.own(small_library, {"cells": {"$add": 2}})


@pytest.mark.parametrize("text", ("{}", "[]", "no", '{"modules": {"other": {}}}'))
def test_what_is_no_statistics(text: str) -> None:
    with pytest.raises(SynthError, match="not the statistics of a module 'unit'"):
        mapping.local_cells(text)


def test_memories() -> None:
    found = memories.parse(DUMP)
    assert [(memory["name"], memories.kind(memory)) for memory in found] == [("words", "1R1W"), ("table", "1R1aR ROM")]
    assert memories.bits(found) == {"1R1W": 64 * 48, "1R1aR ROM": 16 * 8}


def test_every_component_of_the_rtl_is_a_unit(builds: dict[str, Design]) -> None:
    written = set()
    for path in (ROOT / "rtl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("Component" in ast.unparse(base) for base in node.bases):
                written.add(node.name)
    units = {unit.component for built in builds.values() for unit in built.units.values()}
    assert written - units == set()
    assert len(written) > 50


def test_units_stand_as_often_as_they_are_used(builds: dict[str, Design]) -> None:
    units = builds["sparse"].units
    assert {name: units[name].instances for name in (TOP, "Row", "PE", "CsbDecoder", "WindowWalk")} == {
        TOP: 1,
        "Row": 4,
        "PE": 16,
        "CsbDecoder": 4,
        "WindowWalk": 2,
    }
    assert "CsbDecoder" not in builds["dense"].units
    assert "DenseEncoder" in builds["dense"].units


def test_a_unit_that_is_not_there(builds: dict[str, Design]) -> None:
    with pytest.raises(SynthError, match=r"no unit 'CsbDecoder' in this build; there are Accelerator, AdderTree"):
        builds["dense"].unit("CsbDecoder")


def test_a_queue_in_standard_cells(builds: dict[str, Design], tmp_path: Path) -> None:
    path = tmp_path / "tiny.lib"
    path.write_text(CELLS)
    library = liberty.read("tiny", path)
    built = builds["sparse"]
    text = mapping.source(built.netlist, built.unit("SyncFIFOBuffered@WriteQueue").module)
    mapped = mapping.run(cells.flow(library), text, "queue")
    own = cells.own(library, mapped)
    assert own["flip_flops"] == mapped["cells"]["dff"]
    # The words stay a memory; what is left are pointers and a level.
    (words,) = mapped["memories"]
    assert memories.bits(mapped["memories"]) == {"1R1W": words["words"] * words["width"]}
    assert 0 < own["flip_flops"] < words["width"]
    counts = mapped["cells"]
    assert own["area"] == sum(library.area[cell] * counts.get(cell, 0) for cell in library.area)
    assert counts["nand2"] and counts["nor2"] and counts["inv"]


def test_results_are_cached_by_content(
    builds: dict[str, Design], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCRUSTES_SYNTH", str(tmp_path))
    runs = []
    monkeypatch.setattr(mapping, "yosys", lambda script, folder: runs.append(script) or _stat(folder))
    sparse, dense = (builds[name].netlist for name in ("sparse", "dense"))
    texts, others = ({anonymous(mapping.source(one, name)) for name in one} for one in (sparse, dense))
    mapping.run_all(ecp5.FLOW, sparse, list(sparse))
    assert len(runs) == len(texts)
    mapping.run_all(ecp5.FLOW, sparse, list(sparse))
    assert len(runs) == len(texts)
    assert len(texts & others) > len(others) / 3
    mapping.run_all(ecp5.FLOW, dense, list(dense))
    assert len(runs) == len(texts | others), "what both builds share is not synthesised again"


def _stat(folder: Path) -> None:
    (folder / "stat.json").write_text('{"modules": {"unit": {}}}')


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("nothing", "is not in Liberty format: it has no library"),
        (LIBERTY.rstrip()[:-1], "is cut off: 5 opening braces, 4 closing"),
        (LIBERTY.replace("area : 2.0;", ""), "cell nand2_1 in .* has no area"),
        (LIBERTY.replace("nand2", "inv"), "no two-input NAND .* among 2 cells"),
        (LIBERTY.replace("ff (IQ", "gg (IQ"), "no flip-flop among 2 cells"),
    ),
)
def test_what_is_no_cell_library(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.lib"
    path.write_text(text)
    with pytest.raises(SynthError, match=message):
        liberty.read("bad", path)


def test_cell_libraries_are_files_or_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRUSTES_SYNTH", str(tmp_path / "cache"))
    with pytest.raises(SynthError, match="none does not exist"):
        liberty.read("none", tmp_path / "none")
    with pytest.raises(SynthError, match=r"holds no \.lib or \.lib\.gz file"):
        liberty.read("none", tmp_path)
    (tmp_path / "small.lib.gz").write_bytes(gzip.compress(LIBERTY.encode()))
    found = liberty.read("small", tmp_path)
    assert found.area == {"nand2_1": 2.0, "dff_1": 8.0}
    assert (found.sequential, found.nand2, found.gate) == (frozenset({"dff_1"}), 2.0, False)
    assert [path.read_text() for path in found.files] == [LIBERTY]
    (tmp_path / "small.lib.gz").write_bytes(b"not compressed")
    with pytest.raises(SynthError, match="cannot read"):
        liberty.read("small", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (["--array", "huge"], "array 'huge' is neither ROWSxCOLUMNS nor one of tiny"),
        (["--array", "128x4"], "rows must be between 2 and 64, not 128"),
        (["--targets", "ice40"], "target 'ice40' is none of sky130, asap7, ecp5, paths, clock"),
        (["--liberty", "mine=nowhere.lib"], "cell library mine: nowhere.lib does not exist"),
        (["--targets", "sky130"], "cell library sky130 is in none of"),
        (["--seeds", "0"], "seeds must be between 1 and 100, not 0"),
        (["--against", "nowhere.json"], "nowhere.json"),
        (["--array", "tiny", "--targets", "clock", "--unit", "Nobody"], "no unit 'Nobody' in this build"),
    ),
)
def test_errors_of_the_command(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liberty, "folders", lambda: [Path("nowhere")])
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_a_tool_that_is_not_installed() -> None:
    with pytest.raises(SynthError, match=r"'no-such-tool' is not installed: install requirements/synth\.txt"):
        tools.version("no-such-tool")


def test_a_tool_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SynthError, match=r"Yosys failed: .*No such command: nonsense"):
        tools.yosys(["nonsense"], tmp_path)
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(tools, "_program", lambda _: str(killed))
    (tmp_path / "yosys.log").unlink()
    with pytest.raises(SynthError, match="Yosys failed: killed by signal 9"):
        tools.yosys([], tmp_path)
    with pytest.raises(SynthError, match="nextpnr failed: killed by signal 9"):
        tools.nextpnr([], tmp_path)


def _measured(area: float, mhz: float) -> dict[str, object]:
    kinds = {"area": area, "ge": area / 2, "sequential": area / 4}
    unit = {"instances": 1, "own": {"lib": kinds}, "all": {"lib": kinds, "memory_bits": {"1R1W": 64.0}}}
    path = {"from": "a", "to": "b", "logic_ns": 1.0, "routing_ns": 2.0, "memories": []}
    return unit | {"clock": {"device": "LFE5U-25F", "seeds": 5, "mhz": mhz, "min": mhz, "max": mhz, "path": path}}


def _report(sparse: float, mhz: float) -> report.Report:
    made = {
        "tools": {"yosys": "1"},
        "libraries": {"lib": {}},
        "presets": {
            "tiny": {
                "sparse": {TOP: _measured(sparse, mhz), "CsbDecoder": _measured(5.0, 90.0)},
                "dense": {TOP: _measured(100.0, mhz)},
            }
        },
    }
    return made | {"summary": report.summary(made)}


def test_overhead_and_shares() -> None:
    assert _report(112.0, 80.0)["summary"] == {
        "tiny": {"overhead": {"lib": 0.12}, "shares": {"lib": {"CsbDecoder": 0.05}}}
    }


def test_differences_to_an_older_report() -> None:
    rows = report.deltas(_report(110.0, 88.0), _report(100.0, 80.0))
    assert ("tiny, sparse", TOP, "lib area", "100", "110", "+10.0%") in rows
    assert ("tiny, sparse", TOP, "clock, MHz", "80.0", "88.0", "+10.0%") in rows
    assert not [row for row in rows if row[1] == "CsbDecoder"]
    assert report.deltas(_report(1.0, 1.0), {}) == []


def test_tables_name_the_tools() -> None:
    text = report.markdown(_report(112.0, 80.0))
    assert text.startswith("yosys 1.")
    assert "| CsbDecoder | 1 | 5 |" in text
    assert "| tiny | sparse over dense | lib | +12.0% |" in text
