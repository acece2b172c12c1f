"""From visits to operations: the last stages of a row's controller, none of which ever stops.

A visit is shown by the decoder in stage 1; its operation is in the output registers, stage 8. On the way its value is
read or its initial weight computed, its addresses are found, and it is compared with the operations ahead of it.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.csb_decoder import CsbDecoder
from rtl.payload import payload
from rtl.regenerate import Regenerate, saturate
from rtl.row_control import Op
from rtl.row_word import word_end, word_layout
from rtl.tap_table import TapMemory
from rtl.visit_address import Visit, visit_address
from rtl.weight_buffer import WeightBuffer


def until(
    m: Module,
    last: int,
    source: Value,
    name: str,
    since: int = 1,
    enable: list[Value] | None = None,
    flag: bool = True,
) -> list[Value]:
    """`source` at stage `since` and its copies up to stage `last`, indexed by stage.

    Args:
        m: gets the registers.
        last: stage.
        source: of any width.
        name: of the copies, `{name}_{stage}`.
        since: stage, less than `last`.
        enable: by stage, when a copy moves on; always, if there is none.
        flag: cleared by reset.
    """
    stages = [source] * (since + 1)
    for stage in range(since + 1, last + 1):
        copy = Signal(source.shape(), name=f"{name}_{stage}", reset_less=not flag)
        if enable is None:
            m.d.sync += copy.eq(stages[-1])
        else:
            with m.If(enable[stage - 1]):
                m.d.sync += copy.eq(stages[-1])
        stages.append(copy)
    return stages


def operate(
    m: Module,
    cfg: Config,
    row: wiring.Component,
    buffer: WeightBuffer,
    taps: TapMemory,
    decoder: CsbDecoder,
    regenerate: Regenerate,
) -> None:
    """Drive the ports of operation and visit of a `RowController`, and its `done`.

    Args:
        m: of the controller; gets the registers and the walk through boxes.
        cfg: widths.
        row: the controller.
        buffer: asked for values.
        taps: asked for boxes.
        decoder: shows visits in stage 1.
        regenerate: has computed their initial weights in stage 7.
    """
    a_bits, word = cfg.operand_bits, Signal(word_layout(cfg))
    updating = Signal(name="dots")
    m.d.sync += updating.eq(row.phase == Phase.WU)  # there long before the first visit

    k_local, c_local = Signal(max(1, log2_exact(cfg.block_k, ""))), Signal(max(1, log2_exact(cfg.block_c, "")))
    end = word_end(cfg, word)
    void_1, ended_1, final_2, acts_1 = Signal(), Signal(), Signal(), Signal()
    block_c = log2_exact(cfg.block_c, "block_c")
    m.d.comb += [
        word.as_value().eq(decoder.tags_out),
        k_local.eq(decoder.bit[block_c:]),
        c_local.eq(decoder.bit[:block_c]),
        void_1.eq(updating & end.void),
        acts_1.eq(decoder.issue & ~void_1),
        ended_1.eq(decoder.word_last & ~word.null),
    ]
    m.d.sync += final_2.eq(ended_1 & word.final)
    acts = until(m, 7, acts_1, "acts")
    first = until(m, 7, decoder.first, "first")
    last = until(m, 7, decoder.last, "last")
    word_last = until(m, 7, ended_1 & updating, "word_last")
    waits = until(m, 7, (decoder.scan & ~word.null) | (decoder.issue & void_1), "waits")
    # A row without entries is done where the first operation would have been, another a cycle after its last.
    over = until(m, 7, (decoder.scan & word.null) | final_2, "over")
    has_value = until(m, 6, decoder.has_value, "has_value", flag=False)

    # The weight: what is stored, in FW and BW rounded when it was loaded, and the initial one.
    delta, sum_7 = Signal(signed(cfg.delta_bits)), Signal(signed(a_bits + 1))
    stored_7 = Signal(signed(a_bits), reset_less=True)
    m.d.comb += [
        buffer.exact.eq(updating),
        buffer.value_en.eq(first[4] & has_value[4]),
        buffer.value_address.eq(decoder.address),
        delta.eq(Mux(has_value[6], buffer.value, 0)),
        sum_7.eq(stored_7 + regenerate.w0),
    ]
    with m.If(first[6]):
        m.d.sync += stored_7.eq(delta[:a_bits])
    value = payload(m, row.value, "value_8")
    with m.If(first[7]):
        m.d.sync += value.eq(Mux(updating, 0, saturate(m, sum_7, a_bits, "value")))

    visit = Visit(
        decoder.first,
        k_local[: log2_exact(cfg.block_k, "")],
        c_local,
        word.slot,
        word.channel,
        word.tap,
    )
    gather, psum, half = visit_address(m, cfg, row, taps, visit, first[2], acts[2])
    gather = until(m, 7, gather, "gather", since=3, enable=acts, flag=False)
    psum = until(m, 7, psum, "psum", since=3, enable=acts, flag=False)
    half = until(m, 7, half, "half", since=2, enable=acts, flag=False)

    # The hazard: how long ago did a MAC touch this partial sum? Those before it are in the stages ahead.
    bypass_5 = Signal(2)
    ahead = ((acts[6], psum[6]), (acts[7], psum[7]), (row.is_busy, row.psum_addr))
    near = [on & (address == psum[5]) for on, address in ahead]
    m.d.comb += bypass_5.eq(Mux(near[0], 1, Mux(near[1], 2, Mux(near[2], 3, 0))))
    bypass = until(m, 7, bypass_5, "bypass", since=5, flag=False)

    m.d.sync += [
        row.op.eq(Mux(acts[7], Mux(updating, Op.DOT, Op.MAC), Op.NOP)),
        row.is_busy.eq(acts[7]),
        row.is_scan.eq(waits[7]),
        row.dot_first.eq(first[7] & updating),
        row.dot_last.eq(last[7] & updating),
        row.visit_valid.eq(last[7] & updating),
        row.visit_void.eq(waits[7] & last[7]),
        row.visit_word_last.eq(word_last[7]),
        row.bypass.eq(Mux(updating, 0, bypass[7])),
    ]
    for name, source in (("gather_addr", gather), ("psum_addr", psum), ("half", half)):
        address = payload(m, getattr(row, name), f"{name}_8")
        with m.If(acts[7]):
            m.d.sync += address.eq(source[7])
    m.d.comb += [
        row.visit_bit.eq(decoder.bit),
        row.visit_record_last.eq(end.record_last),
        row.visit_next_explored.eq(end.next_explored),
        row.visit_next_count.eq(end.next_count),
        row.visit_has_value.eq(has_value[6]),
        row.visit_delta.eq(delta),
    ]
    with m.If(row.compute_start):
        m.d.sync += row.done.eq(0)
    with m.Elif(over[7]):
        m.d.sync += row.done.eq(1)
