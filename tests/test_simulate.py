"""`scripts.simulate` and `scripts.verilator`: a bench that did not pass must not look as if it had."""

import multiprocessing
import os
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import preset
from scripts import verilator
from scripts.simulate import BenchFailure, build_bench, run_bench, to_verilog

PARAMETERS = {"label": "convention", "config": preset("tiny")}


class Convention(wiring.Component):
    """A register, a counter and a combinational sum, all eight bits wide."""

    d: In(8)
    q: Out(8)
    count: Out(8)
    sum: Out(8)

    def elaborate(self, platform: object) -> Module:
        """See `tb.tb_convention` for what each port does."""
        m = Module()
        hidden = Signal(8)
        m.d.sync += [self.q.eq(self.d), hidden.eq(hidden + 1)]
        m.d.comb += [self.count.eq(hidden), self.sum.eq(hidden + self.d)]
        return m


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a bench module and return its name; what it leaves, failures on purpose, stays out of build/results."""
    monkeypatch.setenv("PROCRUSTES_RESULTS", str(tmp_path / "results"))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def test_sampling_convention() -> None:
    results = run_bench(Convention, "convention", "tb.tb_convention", parameters=PARAMETERS, seed=7)
    assert results.tests == 5
    assert results.waves is None
    assert len(ElementTree.parse(results.junit).getroot().findall(".//testcase")) == 5


def test_failing_bench_raises(bench) -> None:
    name = bench(
        "tb_failing",
        "import cocotb\n@cocotb.test()\nasync def wrong(dut):\n    assert 1 == 2, 'on purpose'\n"
        "@cocotb.test()\nasync def right(dut):\n    pass\n",
    )
    with pytest.raises(BenchFailure, match="tb_failing: 1 of 2 tests failed") as failure:
        run_bench(Convention, "convention", name)
    assert "on purpose" in str(failure.value)


def test_missing_module_raises() -> None:
    with pytest.raises(BenchFailure, match="tb_nowhere") as failure:
        run_bench(Convention, "convention", "tb_nowhere")
    assert "No module named 'tb_nowhere'" in str(failure.value)


def test_zero_tests_raise(bench) -> None:
    name = bench("tb_empty", "import cocotb\n")
    with pytest.raises(BenchFailure, match="tb_empty"):
        run_bench(Convention, "convention", name)


def test_only_skipped_tests_raise(bench) -> None:
    name = bench("tb_skipped", "import cocotb\n@cocotb.test(skip=True)\nasync def later(dut):\n    pass\n")
    with pytest.raises(BenchFailure, match="no test ran"):
        run_bench(Convention, "convention", name)


def test_crashing_simulator_raises(bench) -> None:
    name = bench("tb_crash", "import os, cocotb\n@cocotb.test()\nasync def crash(dut):\n    os._exit(3)\n")
    with pytest.raises(BenchFailure, match="tb_crash"):
        run_bench(Convention, "convention", name)


def test_waves_are_vcd() -> None:
    results = run_bench(Convention, "convention", "tb.tb_convention", parameters=PARAMETERS, seed=7, waves=True)
    assert results.waves is not None
    text = results.waves.read_text()
    assert text.startswith("$version") and "hidden" in text  # waves show what VPI does not


def test_only_ports_are_public(bench) -> None:
    name = bench(
        "tb_private",
        "import cocotb\n@cocotb.test()\nasync def ports(dut):\n"
        "    assert sorted(x._name for x in dut) == ['clk', 'count', 'd', 'q', 'rst', 'sum'], list(dut)\n",
    )
    run_bench(Convention, "convention", name)


def test_second_build_is_cached() -> None:
    text = to_verilog(Convention(), "convention")
    first = build_bench(text, "convention")
    begin = time.perf_counter()
    assert build_bench(text, "convention") == first
    assert time.perf_counter() - begin < 0.5


def _build_slowly(root: str, key: str) -> str:
    import os

    os.environ["PROCRUSTES_CACHE"] = root

    def build(folder: Path) -> None:
        time.sleep(0.2)
        (folder / f"built-{os.getpid()}").touch()

    return str(verilator.cached(key, build))


def test_concurrent_builders_build_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.starmap(_build_slowly, [(str(tmp_path), "key")] * 4)
    assert len(set(folders)) == 1
    assert len(list(Path(folders[0]).glob("built-*"))) == 1


def test_interrupted_build_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRUSTES_CACHE", str(tmp_path))

    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verilator.cached("key", interrupted)
    folder = verilator.cached("key", lambda folder: (folder / "whole").touch())
    assert (folder / "whole").exists() and not (folder / "half").exists()


def test_builds_not_used_for_long_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRUSTES_CACHE", str(tmp_path))
    folders = {key: verilator.cached(key, Path.exists) for key in ("forgotten", "used", "fresh")}
    old = time.time() - (verilator.UNUSED_DAYS + 1) * 24 * 3600
    for key in ("forgotten", "used"):
        os.utime(folders[key] / verilator._MARKER, (old, old))
    assert verilator.cached("used", Path.rmdir) == folders["used"]
    verilator.cached("new", Path.exists)
    assert {key for key, folder in folders.items() if folder.exists()} == {"used", "fresh"}
    assert verilator.cached("forgotten", Path.exists).exists()


def test_build_key_separates_its_parts() -> None:
    assert verilator.build_key("ab", "c") != verilator.build_key("a", "bc")
    assert verilator.build_key("ab", "c") == verilator.build_key("ab", "c")


def test_broken_verilog_shows_the_message() -> None:
    with pytest.raises(verilator.ToolError, match="syntax error"):
        build_bench("module broken(input clk); assign = 1; endmodule", "broken")


def test_ports_are_found_in_both_styles() -> None:
    ansi = "module a(input wire clk, input [7:0] d, e, output reg signed [3:0] q); endmodule module b(); endmodule"
    old = "module a(clk, d, e, q); /* input x; */ input clk; input [7:0] d, e; wire [7:0] d; output [3:0] q; endmodule"
    expected = {"clk": 1, "d": 8, "e": 8, "q": 4}
    for text in (ansi, old):
        found = verilator.ports(text, "a")
        assert {name: port.width for name, port in found.items()} == expected
        assert [name for name, port in found.items() if port.direction == "output"] == ["q"]
    with pytest.raises(ValueError, match="no module 'c' in the Verilog; it defines a, b"):
        verilator.ports(ansi, "c")


def test_missing_system_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    verilator._require_system_tools.cache_clear()
    monkeypatch.setattr(verilator.shutil, "which", lambda tool: None if tool in ("g++", "perl") else f"/bin/{tool}")
    try:
        with pytest.raises(verilator.ToolError, match=r"g\+\+, perl not found.*apt-get install g\+\+ perl"):
            verilator.environment()
    finally:
        verilator._require_system_tools.cache_clear()
