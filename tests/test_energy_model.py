"""Energy model: tables and bad ones, shapes and registers against the RTL, prices, report, off-chip bits, command."""

from __future__ import annotations

import argparse
import io
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from rich.console import Console

from arch.config import PRESETS, Config
from golden import dataset
from golden.energy import events, measured, model, offchip, roofline, sram, step, structure, table
from golden.energy.events import EVENTS
from golden.energy.measured import owners
from golden.predict.storage import buffer_bits
from golden.recipe import Recipe
from rtl.csb_encoder import CsbEncoder, record_info
from rtl.dense_controller import DenseController
from rtl.dense_encoder import DenseEncoder
from rtl.gate_buffer import GateBuffer
from rtl.gradient_buffer import GradientBuffer
from rtl.pe import PE
from rtl.regenerate import Regenerate
from rtl.requantise import Requantise
from rtl.row_control import RowControl, control_layout
from rtl.row_controller import RowController
from rtl.weight_update import WeightUpdate
from scripts import energy as command
from scripts.energy_plots import write_plots
from scripts.energy_report import Source, build, sensitivity
from scripts.options import LATENCY
from tests.programs import TINY, Case, last_step

PAPER, DENSE = PRESETS["paper"], PRESETS["paper"].with_(sparse=False)
UNITS = model.units()


# -- tables -----------------------------------------------------------------------------------------------------------
def test_tables_have_sources_and_years() -> None:
    found = table.read()
    assert found.keys() == table.UNITS.keys()
    for name, entry in found.items():
        assert "nm" in entry.node
        assert re.search(r"(19|20)\d\d|assumption|CACTI", entry.source), name
    assert found["multiply"].value == 3.1
    assert found["add"].value == 0.1
    memory = tomllib.loads(sram.FILE.read_text())
    assert "CACTI" in memory["source"]


CHANGES = {
    "no entry add; there must be multiply": ("[add]", "[added]"),
    "unknown entry more": ("[clock]", "[more]\n[clock]"),
    r"\[add\] has no source": (
        'source = "Horowitz, ISSCC 2014: 32-bit 0.1',
        'other = "Horowitz, ISSCC 2014: 32-bit 0.1',
    ),
    r"\[add\] value must be a number, not 'x'": ("value = 0.1\nlow = 0.1", 'value = "x"\nlow = 0.1'),
    r"\[add\] value must be a number, not True": ("value = 0.1\nlow = 0.1", "value = true\nlow = 0.1"),
    r"\[add\] value must be a number, not inf": ("value = 0.1\nlow = 0.1", "value = inf\nlow = 0.1"),
    r"\[add\] value must be between 0 and 100000, not -1": ("value = 0.1\nlow = 0.1", "value = -1\nlow = 0.1"),
    r"\[add\] value 5 must be between low 0.1 and high 0.21": ("value = 0.1\nlow = 0.1", "value = 5\nlow = 0.1"),
    r"\[add\] value 0.05 must be between low 0.1 and high 0.21": ("value = 0.1\nlow = 0.1", "value = 0.05\nlow = 0.1"),
    r"\[multiply\] unit must be 'pJ', not 'J'": ('unit = "pJ"', 'unit = "J"'),
    r"\[multiply\] node must be a text, not ''": ('node = "45 nm, 0.9 V"', 'node = ""'),
    "is not TOML": ("[add]", "[add"),
    r"\[frequency\] low must be above 0, not 0": ("low = 500.0", "low = 0"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_bad_table(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, (old, new) = table.FILE.read_text(), CHANGES[message]
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as error:
        table.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(SystemExit) as ended:
        command.parse(["--table", str(path)])
    assert ended.value.code == 2
    assert "bad.toml" in capsys.readouterr().err


def test_a_number_is_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("dram = 3\n" + re.sub(r"\[dram\](.|\n)*?\n\n", "", table.FILE.read_text()))
    with pytest.raises(ValueError, match="dram must be a table with value, low, high, unit, per, node, source, not 3"):
        table.read(path)


def test_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, what in (("--table", "energy table"), ("--sram", "SRAM table")):
        with pytest.raises(SystemExit):
            command.parse([option, str(tmp_path / "none.toml")])
        assert f"there is no {what}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        (r"widths = .*", "widths = [64]", "widths must be at least two ascending numbers"),
        (r"depths = \[64, 128", "depths = [128, 64", "depths must be at least two ascending numbers"),
        (r"widths = \[32, 64\]", "widths = [32, 64, 128]", r"\[value\] read has shape"),
        (r"leakage = ", "leaks = ", r"\[value\] has no table of numbers 'leakage'"),
        (r"\[low\]", "[lower]", r"\[low\] has no table of numbers 'read'"),
        (r"\[value\]\nread = \[\n  \[[\d.]+", "[value]\nread = [\n  [-1", r"\[value\] read holds -1.0, every"),
        (r"\[value\]\nread = \[\n  \[[\d.]+", "[value]\nread = [\n  [nan", r"\[value\] read holds nan"),
        (r"\[value\]", "[value", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_sram(pattern: str, new: str, message: str, tmp_path: Path) -> None:
    text, changes = re.subn(pattern, new, sram.FILE.read_text(), count=1)
    assert changes
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        sram.read(path)
    assert str(path) in str(error.value)


def test_sram_between_its_points() -> None:
    memory = sram.read()["value"]
    first, second = memory.points["read"][:, 0]
    assert memory.energy("read", 32, 64) == pytest.approx(first)
    assert memory.energy("read", 64, 64) == pytest.approx(second)
    assert memory.energy("read", 16, 64) == pytest.approx(first / 2)
    assert memory.energy("read", 1024, 64) == pytest.approx(16 * second)
    assert memory.energy("read", 64, 16) == pytest.approx(second)
    assert first < memory.energy("read", 48, 64) < second
    assert memory.energy("read", 32, 90.50966799187809) == pytest.approx(
        np.sqrt(memory.points["read"][0, 0] * memory.points["read"][0, 1])
    )
    for access in ("read", "write"):
        grown = [memory.energy(access, 64, 64 << i) for i in range(8)]
        assert grown == sorted(grown)
    # Horowitz says 10 pJ for 64 bits of 8 KB with one port; two ports cost more, but not twice that and more.
    assert 5 < memory.energy("read", 64, 1024) < 20


# -- structure --------------------------------------------------------------------------------------------------------
def shapes(component: object, name: str) -> set[tuple[int, int]]:
    """(bits, depth) of all memories in the Verilog of a component."""
    text = verilog.convert(component, name=name, strip_internal_attrs=True, emit_src=False)  # type: ignore[arg-type]
    found = re.findall(r"^  reg \[(\d+):0\] \w+ \[(\d+):0\];$", text, re.MULTILINE)
    return {(int(bits) + 1, int(depth) + 1) for bits, depth in found}


@pytest.mark.parametrize("cfg", [PAPER, DENSE, TINY, TINY.with_(operand_bits=8, bus_elements=4)], ids=str)
def test_shapes_are_those_of_the_rtl(cfg: Config) -> None:
    wanted = structure.memories(cfg)
    controller, encoder = (RowController, CsbEncoder) if cfg.sparse else (DenseController, DenseEncoder)
    places = {
        PE(cfg): ("gather", "stationary", "psum"),
        controller(cfg): ("values", "masks"),
        encoder(cfg): ("updated values", "updated masks"),
        GradientBuffer(cfg, 8): ("gradients",),
        GateBuffer(cfg): ("gates",),
    }
    for component, names in places.items():
        found = shapes(component, "unit")
        for name in names:
            if name in wanted:
                assert (wanted[name].bits, wanted[name].depth) in found, name
            else:
                assert not cfg.sparse
    bits = buffer_bits(cfg)
    for name, key in (
        ("gather", "gathered operands"),
        ("psum", "partial sums"),
        ("gates", "gates"),
        ("values", "weights"),
    ):
        assert wanted[name].bits * wanted[name].depth * wanted[name].count == bits[key]


def flops(component: object, outputs: int) -> int:
    """Register bits of a component without the output registers of its memories (`outputs`)."""
    text = verilog.convert(component, name="unit", strip_internal_attrs=True, emit_src=False)  # type: ignore[arg-type]
    total = 0
    for module in re.split(r"(?=^module )", text, flags=re.MULTILINE):
        widths = {
            name: int(high) - int(low) + 1 if high else 1
            for high, low, name in re.findall(
                r"^\s*(?:output\s+)?reg\s+(?:signed )?(?:\[(\d+):(\d+)\] )?(\S+?)(?:\s*=\s*[^;]+)?;",
                module,
                re.MULTILINE,
            )
        }
        for block in re.findall(
            r"always @\(posedge clk\)(.*?)(?=^\s*always|^\s*assign|^endmodule)", module, re.S | re.M
        ):
            total += sum(widths.get(name, 0) for name in set(re.findall(r"^\s*(\S+) +<=", block, re.MULTILINE)))
    return total - outputs


def test_registers_are_those_of_the_rtl() -> None:
    regs, mem = structure.registers(PAPER), structure.memories(PAPER)
    dense = structure.registers(DENSE)
    assert flops(PE(PAPER), mem["gather"].bits + mem["stationary"].bits + 2 * mem["psum"].bits) == regs["PE, MAC"]
    for cfg in (PAPER, TINY, PAPER.with_(operand_bits=8, bus_elements=8)):
        assert control_layout(cfg).size == structure.control_word(cfg)
    assert flops(Requantise(PAPER.acc_bits, PAPER.operand_bits), 0) == regs["requantiser"]
    assert flops(Regenerate(PAPER), 0) == regs["regenerate"]
    assert flops(WeightUpdate(PAPER, 8), 0) == pytest.approx(regs["update"], rel=0.05)
    sparse_memories = mem["masks"].bits + 2 * mem["values"].bits + regs["tap"] + 8 + 60
    assert flops(RowController(PAPER), sparse_memories) == pytest.approx(regs["word"] + regs["visit"], rel=0.05)
    assert flops(DenseController(DENSE), 2 * mem["values"].bits + 60) == pytest.approx(
        dense["word"] + dense["visit"], rel=0.05
    )
    outputs = mem["updated values"].bits + mem["updated masks"].bits + record_info(PAPER).size
    assert flops(CsbEncoder(PAPER), outputs) == pytest.approx(regs["encoder"], rel=0.05)
    assert flops(DenseEncoder(DENSE), 1024) == pytest.approx(dense["encoder"], rel=0.05)
    assert flops(RowControl(PAPER), 0) < 100  # once a row, in the share `clock`


# -- prices -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cfg", [PAPER, DENSE, PRESETS["cnn"], TINY.with_(operand_bits=8, bus_elements=4)], ids=str)
def test_every_event_has_a_price(cfg: Config) -> None:
    for corner in model.CORNERS:
        found = model.prices(cfg, model.units(corner))
        assert found.keys() == EVENTS.keys() == model.OF.keys()
        free = {name for name, price in found.items() if price == 0}
        masks = {"mask_write", "mask_read", "encoded_mask", "encoded_group"}
        assert free == (set() if cfg.sparse else masks)
    low, value, high = (model.prices(cfg, model.units(c)) for c in ("low", "value", "high"))
    assert all(low[name] <= value[name] <= high[name] for name in EVENTS)


def test_prices_by_hand() -> None:
    found, bits = model.prices(PAPER, UNITS), PAPER.acc_bits
    product = 3.1 * 16 * 16 / 1024
    assert found["mac"] == pytest.approx(product + 0.1 * bits / 32 + 0.0181 * (4 * 16 + 3 * bits) / 32 + 0.009 * 208)
    assert found["read_bits"] == found["written_bits"] == 20
    assert found["value_read"] == pytest.approx(8 * UNITS.memory.energy("read", 64, 128))
    assert found["gather_read"] == pytest.approx(UNITS.memory.energy("read", 64, 512))
    assert found["loaded_beat"] == pytest.approx(0.12 * model.side(PAPER, UNITS) * 1024)
    # A weight regenerated against the same 16 bits read: the point of regenerating.
    assert 50 < 16 * found["read_bits"] / found["regeneration"] < 100
    assert 1 < found["regeneration"] < 5


def test_energy_is_counts_times_prices() -> None:
    counts = {name: float(i) for i, name in enumerate(EVENTS)}
    price, found = model.prices(PAPER, UNITS), model.energy(PAPER, counts, UNITS)
    assert sum(found.values()) == pytest.approx(sum(counts[n] * price[n] for n in EVENTS))
    assert found["external memory"] == pytest.approx(20 * (counts["read_bits"] + counts["written_bits"]))
    assert set(found) == set(model.COMPONENTS) == set(model.OF.values())


# -- steps ------------------------------------------------------------------------------------------------------------
def trained(case: Case) -> tuple[step.Step, offchip.Bits, list, Config]:
    trainer, programs, decay = last_step(case, seed=3)
    return (
        step.of_programs(case.config, programs, LATENCY, decay),
        offchip.of_programs(case.config, programs, decay),
        [programs, owners(trainer)],
        case.config,
    )


def test_offchip_bits() -> None:
    """What is stored instead of regenerated: a mantissa of every weight of every region loaded for FW or BW."""
    found, bits, (programs, _), cfg = trained(Case(TINY, (33, 17, 5), 9, 3, decay=0.99))
    assert bits.total == found.total["read_bits"] + found.total["written_bits"]
    assert bits.stored == bits.total + bits.initial
    beats = 0
    for work in (work for works in programs for work in works):
        if work.command.get("load_w") and work.command["phase"] in (0, 1):
            for region in work.regions:
                weights = sum(1 for valid in region.geometry.valid.tolist() if valid)
                beats += -(-weights * 16 // cfg.beat_bits)
    assert bits.initial == beats * cfg.beat_bits > 0
    late = trained(Case(TINY, (33, 17, 5), 9, 12, decay=0.05))[1]
    assert late.initial == 0
    assert late.stored == late.total
    both = offchip.mean([bits, late])
    assert both.total == (bits.total + late.total) / 2


def test_roofline() -> None:
    found, _, (programs, names), cfg = trained(Case(TINY, (40, 30, 10, 4), 12, 12, decay=0.1))
    points = roofline.points(cfg, programs, names, LATENCY)
    wanted = {
        (names[work.command["w_addr"]], ("fw", "bw", "wu")[work.command["phase"]])
        for work in (work for works in programs for work in works)
        if work.walk is not None and work.walk.busy
    }
    assert {(p.layer, p.phase) for p in points} == wanted
    assert {("fc1", "fw"), ("fc2", "bw"), ("fc3", "wu")} <= wanted
    assert sum(p.macs for p in points) == found.total["mac"] + found.total["dot"]
    assert all(0 < p.speed <= roofline.peak(cfg) for p in points)
    assert all(p.intensity == p.macs / p.bytes for p in points)
    assert roofline.bandwidth(cfg) == cfg.beat_bits // 8


def test_measured_steps() -> None:
    """A short training: its second step regenerates every weight, its last ones none; the dense build stores all."""
    data, sizes = dataset.load("digits"), (64, 20, 10)
    plan = Recipe(epochs=2, batch=64, learning_rate=0.4, budget="5x", decay=0.6, period=4)
    ticks: list[int] = []
    dense = measured.dense(TINY, sizes, 64, data, LATENCY)
    early, late = measured.sparse(TINY, sizes, plan, data, LATENCY, lambda: ticks.append(1))
    assert (early.steps, late.steps, dense.steps) == (1, 4, 1)
    assert len(ticks) == plan.steps(len(data.train_y))
    assert dense.tracked == dense.total == early.total > late.tracked > 0
    assert early.step.total["regeneration"] > early.total  # once in FW, once in BW but for the first layer
    assert late.step.total["regeneration"] == late.bits.initial == dense.bits.initial == 0 < early.bits.initial
    assert dense.step.cfg == TINY.with_(sparse=False)
    assert dense.step.picojoules(UNITS) > late.step.picojoules(UNITS)
    for one in (dense, early, late):
        assert one.bits.total == one.step.total["read_bits"] + one.step.total["written_bits"]
        assert {p.layer for p in one.points} == {"fc1", "fc2"}
    assert measured.plain(plan) == replace(plan, decay=1.0, epochs=1)
    with pytest.raises(ValueError, match=r"have not vanished after \d+ steps: train longer"):
        measured.sparse(TINY, sizes, replace(plan, decay=0.999, epochs=1), data, LATENCY)


def test_report_and_sensitivity(tmp_path: Path) -> None:
    sparse, _, (programs, names), cfg = trained(Case(TINY, (40, 30, 10, 4), 12, 12, decay=0.1))
    points = roofline.points(cfg, programs, names, LATENCY)
    text = table.FILE.read_text()
    path = tmp_path / "other.toml"
    path.write_text(text.replace("value = 20.0\nlow = 4.0", "value = 40.0\nlow = 4.0"))
    given = dict(net="n", array="tiny", explore=4, batch=12)
    found, other = (
        build(given, sparse, sparse, {"dense": points, "sparse": points}, source, method="m")
        for source in (Source(), Source(path))
    )
    json.dumps(found)
    assert found["ratio"] == {"value": 1, "low": 1, "high": 1}
    for mode in ("dense", "sparse"):
        one = found["energy"][mode]
        assert one["total"] == pytest.approx(sum(one["components"].values()))
        assert one["total"] == pytest.approx(sum(sum(phase.values()) for phase in one["phases"].values()))
        twice = other["energy"][mode]["components"]
        assert twice["external memory"] == pytest.approx(2 * one["components"]["external memory"])
        assert twice["MAC"] == one["components"]["MAC"]
    dense = step.Step(cfg, {"fw": events.none() | {"mac": 10, "read_bits": 1}}, {})
    light = step.Step(cfg, {"fw": events.none() | {"mac": 1, "read_bits": 1}}, {})
    moved = sensitivity(dense, light, Source())
    assert moved["dram"]["low"] > moved["dram"]["high"]
    assert moved["multiply"]["low"] < moved["multiply"]["high"]
    assert moved["wire"]["low"] == moved["wire"]["high"]


def test_report_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, sizes = dataset.load("digits"), (64, 20, 10)
    plan = Recipe(epochs=1, batch=64, learning_rate=0.4, budget="5x", decay=0.3, period=4)
    dense = measured.dense(TINY, sizes, 64, data, LATENCY)
    early, late = measured.sparse(TINY, sizes, plan, data, LATENCY)
    found = {"dense": dense, "early": early, "plain": early, "sparse": late}
    monkeypatch.setattr(command, "trained", lambda options, console: found)
    source = Source()
    given = dict(net="n", masks=None, array="tiny", batch=64, explore=4, seed=1, table=source.path, sram=source.memory)
    options = argparse.Namespace(**given, budget="5x", epochs=1, data="digits", source=source)
    report = command.report_trained(options, Console())
    shown = io.StringIO()
    command.show(report, Console(file=shown, width=200))
    assert f"{report['ratio']['value']:.2f}× less" in shown.getvalue()
    assert json.loads(json.dumps(report))["traffic"].keys() == report["modes"].keys()
    name = "second step, initial weights fading"
    price = model.prices(TINY, UNITS)
    saved = (report["modes"][name]["stored"] - report["modes"][name]["regenerated"]) * 1e6
    regenerated = early.step.total["regeneration"] * price["regeneration"]
    assert saved == pytest.approx(early.bits.initial * 20 - regenerated)
    assert {path.name for path in write_plots(tmp_path, report)} == {"energy.png", "roofline.png", "traffic.png"}


# -- command ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "nothing"], "nothing"),
        (["--array", "1x4"], "rows must be between 2 and 64, not 1"),
        (["--net", "vgg-s", "--batch", "1"], "batch must be between 2 and 4096, not 1"),
        (["--net", "vgg-s", "--explore", "3"], "explore must be one of 1, 2, 4, 8, 16, 32, 64, not 3"),
        (["--net", "vgg-s", "--epochs", "0"], "epochs must be at least 1, not 0"),
        (["--net", "vgg-s", "--seed", "-1"], "seed must be between 0 and 4294967295, not -1"),
        (["--net", "vgg-s", "--masks", "uniform:0.5x"], "0.5"),
        (["--data", "digits"], "784"),
        (["--net", "vgg-s", "--out", __file__], "--out must name a folder"),
    ],
)
def test_bad_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_command_predicts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command.main(["--net", "lenet5", "--masks", "uniform:10x", "--array", "16x16", "--out", str(out)]) == 0
    report = json.loads((out / "energy.json").read_text())
    assert report["method"] == "predicted from masks"
    assert report["config"]["masks"] == "uniform:10x"
    assert report["ratio"]["value"] > 1
    assert report["energy"]["dense"]["components"]["regeneration"] == 0
    assert (out / "energy.png").stat().st_size > 0
    assert (out / "roofline.png").stat().st_size > 0
    assert not (out / "traffic.png").exists()


def test_command_refuses_what_has_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--net", "vgg-s", "--array", "tiny", "--out", str(tmp_path)]
    assert command.main(arguments) == 2
    assert "energy:" in capsys.readouterr().out
