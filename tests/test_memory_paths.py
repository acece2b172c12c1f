"""Paths between memories: on small netlists written by hand, and on the whole of preset tiny."""

from typing import Any

import pytest

from arch.config import preset
from synth import measure, memory_paths, module_graph, report
from synth.errors import SynthError
from synth.module_graph import THROUGH
from synth.netlist import Netlist
from synth.units import design

# A memory as a part: 16 words of 4 bits. In the top, the words of `one` are addresses of `two`.
PARTS = r"""
module \top.one (clk, we, a, d, q);
  input [3:0] a;
  wire [3:0] a;
  input clk;
  wire clk;
  input [3:0] d;
  wire [3:0] d;
  output [3:0] q;
  CLOCKED
  input we;
  wire we;
  reg [3:0] words [15:0];
  always @(posedge clk) if (we) words[a] <= d;
  READ
endmodule

module \top.two (q, d, a, clk);
  input [3:0] a;
  wire [3:0] a;
  input clk;
  wire clk;
  input [3:0] d;
  wire [3:0] d;
  output [3:0] q;
  wire [3:0] q;
  reg [3:0] table [15:0];
  always @(posedge clk) table[d] <= d;
  assign q = table[a];
endmodule

module top(clk, we, a, d, y);
  input [3:0] a;
  wire [3:0] a;
  input clk;
  wire clk;
  input [3:0] d;
  wire [3:0] d;
  input we;
  wire we;
  output [3:0] y;
  wire [3:0] y;
  wire [3:0] found;
  WIRES
  \top.one  one (
    .a(a),
    .clk(clk),
    .d(d),
    .q(found),
    .we(we)
  );
  \top.two  two (
    .a(ADDRESS),
    .clk(clk),
    .d(d),
    .q(y)
  );
endmodule
"""
NAMES = {"top": "Top", r"\top.one": "One", r"\top.two": "Two"}


def _parts(clocked: bool = False, address: str = "found + 4'd3", wires: str = "") -> Netlist:
    text = PARTS.replace("CLOCKED", "reg [3:0] q;" if clocked else "wire [3:0] q;")
    text = text.replace("READ", "always @(posedge clk) q <= words[a];" if clocked else "assign q = words[a];")
    return Netlist(text.replace("ADDRESS", address).replace("WIRES", wires))


def _module(body: str) -> Netlist:
    """A top with eight bits in and out, `a` of four bits, and a memory `m` of 16 bytes."""
    ports = "input clk;\n  input [3:0] a;\n  input [7:0] d;\n  output [7:0] y;\n  reg [7:0] m [15:0];"
    return Netlist(f"\nmodule top(clk, a, d, y);\n  {ports}\n  {body}\nendmodule\n")


@pytest.mark.parametrize(("clocked", "from_unclocked"), ((False, 1), (True, 0)))
def test_a_path_through_two_memories_is_caught(clocked: bool, from_unclocked: int) -> None:
    found = memory_paths.measure(_parts(clocked), NAMES)
    assert (found["through"], found["through_from_unclocked"]) == (1, from_unclocked)
    read = "clocked" if clocked else "unclocked"
    assert found["paths"] == [
        {"from": "One.words", "read": read, "to": "Two.table", "input": THROUGH, "within": ["Top"]}
    ]


def test_a_register_between_ends_the_path() -> None:
    found = memory_paths.measure(
        _parts(address="held", wires="reg [3:0] held; always @(posedge clk) held <= found;"), NAMES
    )
    assert found == {"through": 0, "through_from_unclocked": 0, "paths": []}


def test_bits_that_no_path_takes() -> None:
    wires = "wire [7:0] both; assign both = { found, d } ^ 8'h35;"
    assert memory_paths.measure(_parts(address="both[3:0]", wires=wires), NAMES)["paths"] == []
    assert memory_paths.measure(_parts(address="both[4:1]", wires=wires), NAMES)["through"] == 1


def test_inputs_of_a_memory() -> None:
    body = "reg [7:0] q, r, n [15:0]; assign y = r; always @(posedge clk) begin q <= m[a]; m[d[3:0]] <= d; "
    netlist = _module(body + "if (q[7]) r <= n[q[3:0]]; if (q[0]) n[q[4:1]] <= q + d; end")
    found = memory_paths.measure(netlist, {"top": "Top"})["paths"]
    inputs = {"read address", "read enable", "write address", "write enable", "write data"}
    assert {path["input"] for path in found} == inputs
    assert {(path["from"], path["read"], path["to"]) for path in found} == {("Top.m", "clocked", "Top.n")}


def test_a_table_of_constants_is_logic() -> None:
    body = "reg [7:0] q, t; assign y = q; always @(*) case (q[3:0]) "
    body += " ".join(f"{n}: t = {n * 37 % 256};" for n in range(16)) + " endcase\n  "
    netlist = _module(body + "always @(posedge clk) begin q <= m[a]; m[t[3:0]] <= d; end")
    found = memory_paths.measure(netlist, {"top": "Top"})
    assert [(path["from"], path["to"], path["input"]) for path in found["paths"]] == [
        ("Top.m", "Top.m", "write address")
    ]
    assert found["through"] == 0


def test_parts_are_joined_like_the_flattened_design() -> None:
    """Ports in another order than they are declared in, an input handed through a part, and one part twice."""
    text = r"""
module \top.a (y, n, x);
  input n;
  wire n;
  input [3:0] x;
  wire [3:0] x;
  output [3:0] y;
  wire [3:0] y;
  assign y = { x[3:1] & { n, n, n }, n };
endmodule

module top(clk, x, y);
  input clk;
  input [3:0] x;
  output [3:0] y;
  reg [3:0] p [15:0];
  reg [3:0] q [15:0];
  reg [3:0] r;
  wire [3:0] b;
  assign y = q[x];
  always @(posedge clk) begin r <= p[x]; p[x] <= x; q[SELECT] <= x; end
  \top.a  one (
    .n(r[0]),
    .x(x),
    .y(b)
  );
  \top.a  two (
    .n(x[0]),
    .x(b),
    .y(y2)
  );
  wire [3:0] y2;
endmodule
"""
    names = {"top": "Top", r"\top.a": "A"}

    def reached(select: str) -> bool:
        found = memory_paths.measure(Netlist(text.replace("SELECT", select)), names)["paths"]
        return any(path["to"] == "Top.q" and path["input"] == "write address" for path in found)

    assert reached("{ b[3], 3'd0 }") and reached("{ b[0], 3'd0 }") and reached("{ y2[2], 3'd0 }")
    assert not reached("{ y2[0], 3'd0 }"), "only `n`, which is an input of the top there"


@pytest.mark.parametrize("text", ("no", "{}", '{"modules": {"unit": {"ports": {}, "cells": {"c": {}}}}}'))
def test_what_is_no_netlist(text: str) -> None:
    with pytest.raises(SynthError, match="not a netlist of a module 'unit'"):
        module_graph.graph(text)


@pytest.mark.parametrize("sparse", (True, False))
def test_no_path_leads_through_a_memory(sparse: bool) -> None:
    found = measure.between_memories(design(preset("tiny").with_(sparse=sparse)))
    assert [path for path in found["paths"] if path["input"] == THROUGH] == []
    assert (found["through"], found["through_from_unclocked"]) == (0, 0)
    # One that is there, across modules: the coefficient unit's records are part of what the vector stage writes.
    last = [path for path in found["paths"] if path["from"] == "CoefficientUnit.records"]
    assert [(path["input"], path["within"]) for path in last] == [("write data", ["VectorStage"])]
    assert last[0]["to"].endswith(".storage")
    # And one that is not: between the table of assignments and the rows stands a register.
    assert not [path for path in found["paths"] if path["from"] == "AssignmentTable.table"]


def test_the_report_counts_them() -> None:
    path: dict[str, Any] = {"from": "A.m", "read": "clocked", "to": "B.n", "within": ["Top"]}
    paths = [path | {"input": "write data"}, path | {"input": "write enable"}]
    between = {"through": 0, "through_from_unclocked": 0, "paths": paths}
    units = {"Accelerator": {"instances": 1, "own": {}, "all": {}}}
    made = {"tools": {}, "libraries": {}, "summary": {}}
    made["presets"] = {"tiny": {"sparse": units, "memory_paths": {"sparse": between}}}
    text = report.markdown(made)
    assert "**tiny, sparse, memory to memory: 2 paths, 0 through a memory**" in text
    assert "| A.m | clocked | B.n | write data, write enable | Top |" in text
