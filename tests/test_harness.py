"""`scripts.harness` on a copy engine small enough to know every cycle of.

Written to start, it reads `n` beats from `a` and writes each to `b` in the cycle its answer
arrives: request i in cycle i, write i in cycle i + latency, busy for n + latency cycles.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from arch.config import Config, preset
from rtl.top import verilog
from scripts.harness import REPEATED, Fault, Harness, RunResult, build_model
from scripts.verilator import ROOT, ToolError, ports

TINY = preset("tiny")

COPY = """
module top(
  input clk, input rst,
  input [8:0] ctl_addr, input [31:0] ctl_wdata, input ctl_we, output [31:0] ctl_rdata, output busy,
  output rd_req_valid, input rd_req_ready, output [31:0] rd_req_addr,
  input rd_resp_valid, output rd_resp_ready, input [BITS-1:0] rd_resp_data,
  output wr_valid, input wr_ready, output [31:0] wr_addr, output [BITS-1:0] wr_data TRACE_PORTS
);
  reg [31:0] source, target, count, requested, written, cycle;
  reg running, slow;
  assign busy = running;
  assign ctl_rdata = ctl_addr == 9'd0 ? {31'd0, running} : ctl_addr == 9'd1 ? source :
                     ctl_addr == 9'd2 ? target : ctl_addr == 9'd3 ? count : 32'hdeadbeef;
  assign rd_req_valid = running && requested != count;
  assign rd_req_addr = source + requested;
  wire gate = !slow || cycle[1:0] == 2'd3;
  assign rd_resp_ready = wr_ready && gate;
  assign wr_valid = rd_resp_valid && gate;
  assign wr_data = rd_resp_data;
  assign wr_addr = target + written;
  TRACE_ASSIGNS
  always @(posedge clk) begin
    if (rst) begin
      running <= 0; source <= 0; target <= 0; count <= 0; requested <= 0; written <= 0; slow <= 0; cycle <= 0;
    end else begin
      if (ctl_we) case (ctl_addr)
        9'd0: begin running <= 1; requested <= 0; written <= 0; cycle <= 0; end
        9'd1: source <= ctl_wdata;
        9'd2: target <= ctl_wdata;
        9'd3: count <= ctl_wdata;
        9'd4: slow <= ctl_wdata[0];
        default: ;
      endcase
      if (running) cycle <= cycle + 1;
      if (rd_req_valid && rd_req_ready) requested <= requested + 1;
      if (wr_valid && wr_ready) begin
        written <= written + 1;
        if (written + 1 == count) running <= 0;
      end
    end
  end
endmodule
"""


def copy_engine(cfg: Config = TINY, trace: bool = False) -> str:
    """The copy engine with the port widths of a configuration."""
    text = COPY.replace("BITS", str(cfg.beat_bits))
    extra, assigns = "", ""
    if trace:
        extra = f", output [{64 * cfg.rows - 1}:0] trace_rows, output [63:0] trace_central"
        parts = ", ".join(f"32'd{row}, cycle" for row in reversed(range(cfg.rows)))
        assigns = f"assign trace_rows = {{{parts}}}; assign trace_central = {{cycle, rd_req_addr}};"
    text = text.replace("[BITS-1:0]", f"[{cfg.beat_bits - 1}:0]")
    return (
        text.replace(f"{cfg.beat_bits}-1", f"{cfg.beat_bits - 1}")
        .replace("TRACE_PORTS", extra)
        .replace("TRACE_ASSIGNS", assigns)
    )


def start(harness: Harness, source: int, target: int, count: int, slow: bool = False) -> None:
    """Program a copy and start it."""
    for register, value in ((1, source), (2, target), (3, count), (4, int(slow)), (0, 1)):
        harness.write(register, value)


def copy(harness: Harness, source: int, target: int, count: int, trace: bool = False) -> RunResult:
    """Program, start and run a copy."""
    start(harness, source, target, count)
    return harness.run(100_000, trace=trace)


def filled(harness: Harness, seed: int = 0) -> np.ndarray:
    """Fill the memory with noise; returns a copy of it."""
    harness.memory[:] = np.random.default_rng(seed).integers(0, 256, harness.memory.shape, dtype=np.uint8)
    return harness.memory.copy()


@pytest.mark.parametrize("latency", [1, 2, 16, 200])
@pytest.mark.parametrize("count", [1, 5, 150])
def test_latency_is_exact(latency: int, count: int) -> None:
    harness = Harness(copy_engine(), TINY, latency, beats=1024)
    before = filled(harness)
    result = copy(harness, 10, 512, count)
    index = np.arange(count)
    assert result.cycles == count + latency
    assert np.array_equal(result.reads, np.stack([index, 10 + index], axis=1))
    assert np.array_equal(result.writes, np.stack([index + latency, 512 + index], axis=1))
    before[512 : 512 + count] = before[10 : 10 + count]
    assert np.array_equal(harness.memory, before)
    assert result.fault is None and result.trace is None and result.central is None


def test_answers_wait_for_ready_and_queue_behind() -> None:
    harness = Harness(copy_engine(), TINY, 16, beats=1024)
    before = filled(harness)
    start(harness, 0, 512, 300, slow=True)
    result = harness.run(10_000)
    assert np.array_equal(result.writes[:, 0], 19 + 4 * np.arange(300))  # 19: the first 4k+3 from 16 on
    assert np.array_equal(harness.memory[512:812], before[:300])


@pytest.mark.parametrize(("distance", "sees_new"), [(16, False), (17, True)])
def test_read_samples_memory_at_its_request(distance: int, sees_new: bool) -> None:
    """With distance = latency a beat is read in the very cycle it is written, with one more the cycle after."""
    harness = Harness(copy_engine(), TINY, 16, beats=256)
    before = filled(harness)
    copy(harness, 0, distance, 100)
    source = np.concatenate([before[:distance], harness.memory[distance:100]]) if sees_new else before[:100]
    assert np.array_equal(harness.memory[distance : distance + 100], source)


@pytest.mark.parametrize("probabilities", [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.3, 0.6, 0.2), (0.9, 0.9, 0.9)])
def test_stalls_keep_the_data(probabilities: tuple[float, float, float]) -> None:
    harness = Harness(copy_engine(), TINY, 16, beats=1024)
    before = filled(harness)
    cycles = []
    for seed in (1, 1, 2):
        harness.memory[:] = before
        harness.set_stalls(seed, *probabilities)
        result = copy(harness, 3, 600, 200)
        cycles.append(result.cycles)
        assert np.array_equal(harness.memory[600:800], before[3:203])
        assert np.array_equal(result.reads[:, 1], 3 + np.arange(200))
    assert cycles[0] == cycles[1] != cycles[2]
    assert min(cycles) > 216 * 1.2
    harness.set_stalls(1, 0, 0, 0)
    assert copy(harness, 3, 600, 200).cycles == 216


def test_stall_probability_is_the_stated_one() -> None:
    harness = Harness(copy_engine(), TINY, 1, beats=1 << 15)
    harness.set_stalls(5, 0.25, 0, 0)
    cycles = copy(harness, 0, 1 << 14, 10_000).cycles
    assert abs(10_000 / cycles - 0.75) < 0.02


@pytest.mark.parametrize(
    ("source", "target", "fault"),
    [(1000, 0, Fault("read", 1024, 24)), (0, 1020, Fault("write", 1024, 20)), (1 << 31, 0, Fault("read", 1 << 31, 0))],
)
def test_out_of_bounds_is_flagged(source: int, target: int, fault: Fault) -> None:
    harness = Harness(copy_engine(), TINY, 16, beats=1024)
    before = filled(harness)
    result = copy(harness, source, target, 50)
    assert result.fault == harness.fault == fault
    if source == 1000:
        assert np.array_equal(harness.memory[:24], before[1000:]) and not harness.memory[24:50].any()
    harness.reset()
    assert harness.fault is None


def test_registers() -> None:
    harness = Harness(copy_engine(), TINY, beats=16)
    harness.write(1, 0xFFFFFFFF)
    harness.write(2, -2)
    assert (harness.read(1), harness.read(2), harness.read(200)) == (0xFFFFFFFF, 0xFFFFFFFE, 0xDEADBEEF)
    harness.reset()
    assert harness.read(1) == 0


def test_reset_in_flight_forgets_outstanding_reads() -> None:
    harness = Harness(copy_engine(), TINY, 16, beats=1024)
    before = filled(harness)
    start(harness, 0, 512, 100)
    harness.step(10)
    harness.reset()
    assert harness.read(0) == 0 and np.array_equal(harness.memory, before)
    assert copy(harness, 7, 512, 100).cycles == 116
    assert np.array_equal(harness.memory[512:612], before[7:107])


def test_trace_holds_every_busy_cycle() -> None:
    harness = Harness(copy_engine(trace=True), TINY, 16, beats=1024)
    result = copy(harness, 100, 512, 40, trace=True)
    cycle = np.arange(56, dtype=np.uint64)
    assert result.trace is not None and result.central is not None
    rows = np.arange(TINY.rows, dtype=np.uint64)
    assert np.array_equal(result.trace, cycle[:, None] + (rows << np.uint64(32)))
    assert np.array_equal(result.central, (cycle << np.uint64(32)) + 100 + np.minimum(cycle, 40).astype(np.uint64))
    assert copy(harness, 100, 512, 40).trace is None


def test_two_instances_and_two_models_at_once() -> None:
    wide = TINY.with_(columns=8)
    one = Harness(copy_engine(), TINY, 4, beats=256)
    two = Harness(copy_engine(), TINY, 9, beats=512)
    three = Harness(copy_engine(wide, trace=True), wide, 5, beats=512)
    before = [filled(harness, seed) for seed, harness in enumerate((one, two, three))]
    start(one, 0, 100, 50)
    start(two, 0, 200, 60)
    start(three, 0, 300, 70)
    one.step(3)
    assert two.run(1000).cycles == 69
    assert three.run(1000, trace=True).cycles == 75
    assert one.run(1000).cycles == 51  # three of its 54 passed in step()
    for harness, memory, target, count in (
        (one, before[0], 100, 50),
        (two, before[1], 200, 60),
        (three, before[2], 300, 70),
    ):
        assert np.array_equal(harness.memory[target : target + count], memory[:count])


def test_many_instances_are_released() -> None:
    text = copy_engine()
    for _ in range(50):
        assert copy(Harness(text, TINY, 2, beats=64), 0, 32, 4).cycles == 6
    gc.collect()


def test_released_in_any_order() -> None:
    """Verilator's scopes leave the context of the model that ran last, wherever it went (this once hung)."""
    script = """
        import gc
        from scripts.harness import Harness
        from tests.test_harness import TINY, copy, copy_engine
        text = copy_engine(trace=True)
        held = [Harness(text, TINY, 2, beats=64, repeated={"top": ["trace_rows"]}) for _ in range(4)]
        for last in (3, 0, 1, 2):
            copy(held[last], 0, 32, 4)
            held[last] = None
            gc.collect()
            scratch = [bytes([255]) * size for size in range(32, 4096, 8)]
        print("released")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "released\n", done.stderr


def test_memory_can_be_replaced() -> None:
    harness = Harness(copy_engine(), TINY, 2, beats=64)
    other = np.zeros((128, TINY.beat_bits // 8), dtype=np.uint8)
    other[3] = 7
    harness.memory = other
    assert copy(harness, 3, 100, 1).fault is None
    assert (other[100] == 7).all()
    with pytest.raises(ValueError, match=r"memory must be uint8 of shape \(beats, 16\), not int64 \(4, 16\)"):
        harness.memory = np.zeros((4, 16), dtype=np.int64)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="memory must be C-contiguous and writable"):
        harness.memory = other[::2]


def test_time_limit_is_exact() -> None:
    harness = Harness(copy_engine(), TINY, 16, beats=1024)
    for count in (1, 30, 100, 300):
        start(harness, 0, 512, count)
        assert harness.run(count + 16).cycles == count + 16
        start(harness, 0, 512, count)
        with pytest.raises(TimeoutError, match=f"still busy after {count + 15} cycles"):
            harness.run(count + 15)
        harness.reset()
    with pytest.raises(TimeoutError, match="did not become busy within 64 cycles"):
        harness.run(1000)


def test_bad_parameters() -> None:
    text = copy_engine()
    with pytest.raises(ValueError, match="latency must be at least 1, not 0"):
        Harness(text, TINY, 0)
    with pytest.raises(ValueError, match=r"beats must be between 1 and 2\*\*32, not 0"):
        Harness(text, TINY, beats=0)
    harness = Harness(text, TINY, beats=4)
    with pytest.raises(ValueError, match="p_resp must be at least 0 and below 1, not 1"):
        harness.set_stalls(1, 0, 1, 0)
    with pytest.raises(ValueError, match="control address must be between 0 and 511, not 512"):
        harness.write(512, 0)
    with pytest.raises(ValueError, match=r"the design has no port 'trace_rows': build it with Config\(trace=True\)"):
        harness.run(10, trace=True)
    with pytest.raises(ValueError, match=r"lacks the ports of the harness: rd_resp_data \(input, 256 bits\)"):
        build_model(text, TINY.with_(columns=8))
    with pytest.raises(ToolError, match="verilator failed in"):
        build_model(text.replace("assign busy = running;", "assign busy = absent_signal +;"), TINY)


def test_speed() -> None:
    """Far below what is measured (millions of cycles a second), far above a per-cycle Python loop."""
    harness = Harness(copy_engine(), TINY, beats=1 << 17)
    begin = time.perf_counter()
    cycles = copy(harness, 0, 1 << 16, 1 << 16).cycles
    assert cycles / (time.perf_counter() - begin) > 200_000


@pytest.mark.parametrize("copies", (True, False))
@pytest.mark.parametrize("sparse", (True, False))
def test_what_differs_between_instances_is_kept_apart(sparse: bool, copies: bool) -> None:
    """Otherwise Verilator emits the code of every row for itself, and the model is half as fast."""
    text = verilog(TINY.with_(sparse=sparse, copies=copies, trace=True))
    for module, count in (("row", TINY.rows), ("pe", TINY.columns)):
        bodies = re.findall(rf"^  {module} \S+ \($(.*?)^  \);$", text, re.MULTILINE | re.DOTALL)
        connected = [dict(re.findall(r"^    \.(\S+)\((.*?)\),?$", body, re.MULTILINE)) for body in bodies]
        assert len(connected) == count
        inputs = [name for name, port in ports(text, module).items() if port.direction == "input"]
        differ = {name for name in inputs if len({one[name] for one in connected}) > 1}
        assert differ and differ <= set(REPEATED[module]), differ
