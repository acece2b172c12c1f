"""The rows, wired to the engines: what all of them see is broadcast, what they show is collected.

Rows are instances of one module, converted once (`rtl.emit`), or submodules (for Amaranth's simulator).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Cat, ClockSignal, Const, Instance, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.trace import BITS as TRACE_BITS
from rtl.box_walk import AXES
from rtl.command_processor import CommandProcessor
from rtl.compute_sequencer import EVENTS, ComputeSequencer
from rtl.dense_drainer import dense_words
from rtl.drain_stage import DrainStage
from rtl.loader import Loader
from rtl.quantile import QuantileEstimator
from rtl.reduction import tree
from rtl.registers import Registers
from rtl.row import ANSWERS, Row
from rtl.tap_table import TAP_BITS, TapBuilder

ROW_MODULE = "row"

#: Ports of a row that the loader drives in all rows, with its names.
_LOAD_BUS = (
    "bus_data",
    "col_we",
    "col_addr",
    "stat_we",
    "stat_row",
    "stat_addr",
    "load_start",
    "load_exact",
    "load_valid",
    "load_is_value",
    "load_before",
    "load_offsets",
    "load_words",
    "load_first",
    "load_row",
    "load_slot",
    "load_channel",
    "load_kb",
    "load_cb",
    "load_all",
    "entry_valid",
    "entry_row",
    "entry_slot",
    "entry_word",
    "entry_group",
    "entry_record_base",
    "entry_cb",
)
#: Ports of a row that are fields of the command in compute.
_FIELDS = (
    "phase",
    "words",
    "mask_beats",
    "log2_blocks",
    *(f"{name}_{axis}" for name in ("gather", "psum") for axis in AXES),
    "log2_positions",
    "k_end",
    "c_end",
    "bias",
    "bias_tap",
    "depthwise",
    "wide",
    "salt",
    "sum_add",
    "sum_store",
)
_BANKS = ("weight_bank", "tap_bank", "gather_bank", "psum_bank", "stat_bank", "update_bank")
_TAPS = ("tap_we", "tap", "box", "count")


@dataclass(frozen=True)
class Engines:
    """What rows are wired to. `quantile`: None in a dense build."""

    registers: Registers
    processor: CommandProcessor
    loader: Loader
    taps: TapBuilder
    sequencer: ComputeSequencer
    drain: DrainStage
    quantile: QuantileEstimator | None


def connect_rows(
    m: Module, cfg: Config, engines: Engines, rows: list[Row], *, emit: bool, trace_rows: Signal | None
) -> None:
    """Place the rows in a module and wire them.

    Args:
        m: the top level.
        cfg: configuration.
        engines: to wire them to.
        rows: all of them, or with `emit` the one of which they are instances.
        emit: instances, not submodules.
        trace_rows: with cfg.trace, takes their records, see `rtl.top.Accelerator`.
    """
    registers, loader = engines.registers, engines.loader
    sequencer, drain = engines.sequencer, engines.drain
    common = _broadcast(m, cfg, engines)
    shapes = {name: (port.flow, port.shape) for name, port in rows[0].signature.members.items()}
    buses = {}
    for name, value in common.items():
        # One named signal a bus: the same expression in every row would be emitted once a row.
        buses[name] = Signal(shapes[name][1], name=f"to_rows_{name}")
        m.d.comb += buses[name].eq(value)
    collected = {
        "done": sequencer.row_done,
        "is_busy": sequencer.row_busy,
        "is_scan": sequencer.row_scan,
        "update_error": sequencer.row_update_error,
        "sum_error": sequencer.row_sum_error,
        **{name: getattr(sequencer, f"row_{name}") for name in EVENTS},
    }
    answers: dict[str, tuple[Value, Signal]] = {"drain_data": (drain.rows_data, drain.rows_next)}
    if cfg.sparse:
        answers |= {
            "drain_mask": (drain.rows_mask, drain.rows_mask_next),
            "drain_info": (drain.rows_info.as_value(), drain.rows_info_next),
        }
    words: dict[str, list[Value]] = {name: [] for name in ("side_q", *answers)}
    every = [
        {name: Signal(shape, name=f"row{number}_{name}") for name, (flow, shape) in shapes.items() if flow is Out}
        for number in range(cfg.rows)
    ]
    asked = _questions(m, cfg, engines, shapes, every)
    for number, outputs in enumerate(every):
        inputs = {**buses, "number": Const(number, shapes["number"][1]), **asked[number]}
        assert inputs.keys() == {name for name, (flow, _) in shapes.items() if flow is In}
        if emit:
            m.submodules[f"row{number}"] = Instance(
                ROW_MODULE,
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                **{f"i_{name}": value for name, value in inputs.items()},
                **{f"o_{name}": value for name, value in outputs.items()},
            )
        else:
            m.submodules[f"row{number}"] = row = rows[number]
            m.d.comb += [getattr(row, name).eq(value) for name, value in inputs.items()]
            m.d.comb += [value.eq(getattr(row, name)) for name, value in outputs.items()]
        m.d.comb += [bits[number].eq(outputs[name]) for name, bits in collected.items()]
        if number + sides(cfg) >= cfg.rows:  # the last row of its chain
            for name, of_rows in words.items():
                of_rows.append(outputs[name])
        m.d.comb += loader.row_error.word_select(number, 2).eq(outputs["load_error"])
        if cfg.trace:
            m.d.comb += trace_rows.word_select(number, TRACE_BITS).eq(outputs["trace"])
    m.d.comb += registers.row_busy.eq(sequencer.row_busy)
    sums = tree(words["side_q"], operator.or_)  # a row that is not asked answers zero
    if not cfg.copies:  # otherwise rows have a register each, as for the answers below
        answer_sums = Signal(len(sums), reset_less=True)
        m.d.sync += answer_sums.eq(sums)
        sums = answer_sums
    m.d.comb += drain.side_q.eq(sums)
    for name, (answer, question) in answers.items():
        _answer(m, cfg, name, words[name], question, answer)


def sides(cfg: Config) -> int:
    """Chains of rows: row n is in chain n mod `sides(cfg)`."""
    return 2 if cfg.copies else cfg.rows


def _questions(
    m: Module, cfg: Config, engines: Engines, shapes: dict[str, Any], every: list[dict[str, Signal]]
) -> list[dict[str, Value]]:
    """What the drain asks every row, and with `cfg.copies` the answers it adds to: chains of rows side by side.

    A clear of all rows that comes to one of them when the bank has flipped (`CommandProcessor` clears both) is made up
    for: as many come late the second time.

    Args:
        m: the top level.
        cfg: configuration.
        engines: the drain and what clears partial sums.
        shapes: direction and shape of the ports of a row.
        every: outputs of the rows.

    Returns: values of the ports, by their names, row by row.
    """
    processor, drain = engines.processor, engines.drain
    picked = {"side_read": drain.side_clear, "side_clear": drain.side_clear, "drain_next": drain.rows_next}
    common = {
        "side_addr": Mux(processor.scrubbing, processor.scrub_addr, drain.side_addr),
        "drain_start": drain.rows_start,
    }
    if cfg.sparse:
        picked |= {"drain_mask_next": drain.rows_mask_next, "drain_info_next": drain.rows_info_next}
        common |= {"drain_mask_last": drain.rows_mask_last}
    asked: list[dict[str, Value]] = [{} for _ in range(cfg.rows)]
    for side in range(sides(cfg)):
        chain = range(side, cfg.rows, sides(cfg))
        bits = {name: Cat(of_rows[row] for row in chain) for name, of_rows in picked.items()}
        bits["side_clear"] |= processor.scrubbing.replicate(len(chain))
        for name, question in (common | bits).items():
            value = Signal(shapes[name][1], name=f"to_side{side}_{name}")
            m.d.comb += value.eq(question)
            for step in range(cfg.chain_rows - len(chain)):  # a shorter chain answers as late
                late = Signal.like(value, name=f"to_side{side}_{name}_{step + 1}")
                m.d.sync += late.eq(value)
                value = late
            for row in chain:
                asked[row][name] = value
                value = every[row].get(f"{name}_on", value)
        for name in (name for name in ANSWERS if f"{name}_before" in shapes):
            answer: Value = Const(0, shapes[name][1])
            for row in chain:
                asked[row][f"{name}_before"] = answer
                answer = every[row][name]
    return asked


def _answer(m: Module, cfg: Config, name: str, words: list[Value], question: Signal, answer: Value) -> None:
    """What the drain hears of the rows, `Row.answered(cfg)` cycles after its question.

    With `cfg.copies` rows have a register each, and the last ones of both chains are ORed: little for the wires to do
    behind it. Otherwise there is one behind a choice among them, the smaller by 1 % of the logic of a 16x16 array.
    """
    if cfg.copies:
        m.d.comb += answer.eq(tree(words, operator.or_))
        return
    row = Signal(range(cfg.rows), name=f"{name}_row")
    m.d.comb += row.eq(
        Cat(Cat(question[n] for n in range(cfg.rows) if n >> place & 1).any() for place in range(len(row)))
    )
    for step in range(Row.drain_latency(cfg)):
        later = Signal.like(row, name=f"{name}_row_{step + 1}", reset_less=True)
        m.d.sync += later.eq(row)
        row = later
    register = Signal(len(answer), name=f"answer_{name}", reset_less=True)
    m.d.sync += register.eq(Array(words)[row])
    m.d.comb += answer.eq(register)


def _broadcast(m: Module, cfg: Config, engines: Engines) -> dict[str, Value]:
    """What all rows see, by the name of their port."""
    registers, processor, loader = engines.registers, engines.processor, engines.loader
    sequencer, command = engines.sequencer, processor.compute_command
    first_k = Signal(16)  # output channel of the first record loaded
    filter_taps = Signal(TAP_BITS)
    m.d.sync += [
        first_k.eq(command.k0 + (command.record0 << log2_exact(cfg.block_k, "block_k"))),
        filter_taps.eq(command.kernel_rows * command.kernel_cols),
    ]
    taps = filter_taps if cfg.maps else Const(1, TAP_BITS)
    fields = [name for name in _FIELDS if cfg.sparse or name not in ("mask_beats", "salt")]
    common: dict[str, Value] = {
        **{name: getattr(loader, name) for name in _LOAD_BUS if name in loader.signature.members},
        **{name: getattr(processor, name) for name in _BANKS},
        **{name: getattr(engines.taps, name) for name in _TAPS},
        **{name: getattr(command, name) for name in fields},
        "block_rows": command.records,
        "taps": taps,
        "k0": first_k,
        "command": processor.compute_index,
        "lr": registers.lr,
        "shift": sequencer.update_shift,
        "compute_start": sequencer.compute_start,
    }
    if engines.quantile is not None:
        common |= {
            "scale_t": sequencer.scale_t,
            "dense_mode": registers.dense_mode,
            "step": sequencer.slot_step,
            "log2_period": registers.log2_period,
            "theta": engines.quantile.theta,
        }
    else:
        common["record_words"] = dense_words(cfg, command.words)
    return common
