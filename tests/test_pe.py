"""Row of PEs: the Verilated row against a model without a pipeline, and what its Verilog looks like."""

import re

import pytest

from arch.config import PRESETS
from rtl.emit import verilog
from rtl.pe import PE
from rtl.pe_row import RowDatapath
from scripts.simulate import run_bench

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "small": PRESETS["small"],
    "tiny8": PRESETS["tiny"].with_(operand_bits=8),
    "two": PRESETS["tiny"].with_(columns=2, bus_elements=8, gather_depth=16, psum_depth=4),
}


def row(name: str) -> str:
    return verilog(RowDatapath(CONFIGS[name], emit=True), CONFIGS[name], "pe_row")


@pytest.mark.parametrize(("name", "seed"), [*((name, 1) for name in CONFIGS), ("tiny", 2)])
def test_row_equals_model(name: str, seed: int) -> None:
    results = run_bench(row(name), "pe_row", "tb.tb_pe", parameters={"config": CONFIGS[name]}, seed=seed)
    assert results.tests == 8


def test_submodules_behave_as_the_instances_do() -> None:
    cfg = CONFIGS["two"]
    text = verilog(RowDatapath(cfg, emit=False), cfg, "pe_row")
    assert not re.search(r"^module pe\b", text, re.MULTILINE)
    assert run_bench(text, "pe_row", "tb.tb_pe", parameters={"config": cfg}).tests == 8


@pytest.mark.parametrize("name", CONFIGS)
def test_latency_law(name: str) -> None:
    cfg = CONFIGS[name]
    assert RowDatapath.MAC_LATENCY == PE.WRITE_LATENCY == 5
    assert PE.LATENCY == 3
    assert RowDatapath.dot_latency(cfg) == 4 + cfg.columns.bit_length() - 1


def test_pe_is_one_module_however_many_there_are() -> None:
    text = row("small")
    assert len(re.findall(r"^module pe\(", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^  pe pe\d+ \(", text, re.MULTILINE)) == CONFIGS["small"].columns
    assert text == row("small")
    assert "src =" not in text


@pytest.mark.parametrize("name", CONFIGS)
def test_pe_has_one_multiplier_and_four_memories(name: str) -> None:
    cfg = CONFIGS[name]
    text = verilog(PE(cfg), cfg, "pe")
    assert len(re.findall(r"\$signed\([^)]*\) \* \$signed\([^)]*\)", text)) == 1
    assert text.count(" * ") == 1
    assert sorted(re.findall(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];$", text, re.MULTILINE)) == sorted(
        (str(bits - 1), memory, str(depth - 1))
        for memory, bits, depth in (
            ("gather", cfg.bus_elements * cfg.operand_bits, 2 * cfg.gather_depth // cfg.bus_elements),
            ("psum0", cfg.acc_bits, cfg.psum_depth),
            ("psum1", cfg.acc_bits, cfg.psum_depth),
            ("stationary", cfg.delta_bits, 2 * cfg.psum_depth),
        )
    )
    assert text.count("(* no_rw_check") == 4


def test_pe_memories_are_rams() -> None:
    """A memory is read only behind a register and written in one place: what synthesis makes a RAM of."""
    text = verilog(PE(CONFIGS["tiny"]), CONFIGS["tiny"], "pe")
    for memory in ("gather", "psum0", "psum1", "stationary"):
        accesses = re.findall(rf"^ *(.*\b{memory}\[.*);$", text, re.MULTILINE)
        writes = [line for line in accesses if re.fullmatch(rf"{memory}\[\D\S+\] <= .+", line)]
        reads = [line for line in accesses if re.fullmatch(rf"\S+ <= {memory}\[\D\S+\]", line)]
        initial = [line for line in accesses if re.fullmatch(rf"{memory}\[\d+\] = \d+'[dh]0+", line)]
        assert (len(writes), len(reads)) == (1, 1)
        assert len(accesses) == 2 + len(initial)


def test_source_locations_on_request() -> None:
    assert "rtl/pe.py" in verilog(PE(CONFIGS["tiny"]), CONFIGS["tiny"], "pe", source=True)


def test_pe_name_is_taken() -> None:
    with pytest.raises(ValueError, match="^the top module cannot be called 'pe': that is the name of the PE module$"):
        verilog(RowDatapath(CONFIGS["tiny"], emit=True), CONFIGS["tiny"], "pe")
