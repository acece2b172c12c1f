"""Processing element: three operand memories and one multiply-accumulate.

Gathered operands come from one memory; the other factor is the broadcast weight (MAC) or comes from
the memory of stationary operands (DOT); partial sums lie in the third.

A PE has no control of its own. `RowControl` turns the operation a row presents each cycle into one
word of enables, addresses and selects, already delayed to the stage that uses them; all PEs of the
row share that word, so its pipeline registers exist once a row and not once a PE. Every memory has two
banks: compute works in one while the loader and the drain use the other. Operands are only read in one bank and only
written in the other, so their banks are halves of one memory; partial sums are read and written in both, and have two.
The stationary operand has
a memory of its own (not a psum bank) because a weight update is loaded while the working set before
it computes and the one before that still drains.

    cycle  MAC                                      DOT
    T0     issue gather read                        issue gather and stationary read
    T1     pick element, load operands; psum read   pick element and half, load operands
    T2     multiply; psum word or bypass -> base    multiply
    T3     acc = base (or acc) + product            product readable
    T4     write acc to the psum bank

The dataflow (weights broadcast along a row, samples in columns) is that of Procrustes, Yang et al.,
MICRO 2020; the bypasses are those of any pipelined accumulator.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config
from rtl.ram import ram
from rtl.row_control import control_layout


class PE(wiring.Component):
    """Memories and arithmetic of one array element; see the module docstring for the schedule.

    Reset does not clear the memories, and no register here needs one: every effect hangs on an enable of `RowControl`,
    which has. Whether a partial sum is alive is known there; what a dead word holds is never seen.

    Args:
        cfg: widths and depths.

    Ports:
        control: word of `RowControl`. load_data: E operands of the bus.
        stat_data: two stationary operands, 2A bits.
        side_q: psum word at side_addr, signed `acc_bits`, one cycle after side_read, otherwise zero; not that of an
        address written in the same cycle.
        product: gathered x weight or stationary operand, signed 2A, readable in T3; it holds its
        value in cycles without operation.
    """

    LATENCY = 3  # operation to product
    WRITE_LATENCY = 5  # operation to the first cycle in which a side read sees its sum

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "control": In(control_layout(cfg)),
                "load_data": In(cfg.bus_elements * cfg.operand_bits),
                "stat_data": In(cfg.delta_bits),
                "side_q": Out(signed(cfg.acc_bits)),
                "product": Out(signed(cfg.delta_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, control = self._cfg, self.control
        a_bits, acc_bits = cfg.operand_bits, cfg.acc_bits
        m = Module()

        acc = Signal(signed(acc_bits), reset_less=True)
        words = 2 * cfg.gather_depth // cfg.bus_elements
        m.submodules.gather = memory = ram(cfg.bus_elements * a_bits, words)
        write, read = memory.write_port(), memory.read_port()
        gathered_word = read.data
        m.d.comb += [
            write.en.eq(control.gather_we),
            write.addr.eq(control.gather_waddr),
            write.data.eq(self.load_data),
            read.en.eq(control.gather_re),
            read.addr.eq(control.gather_raddr),
        ]
        m.submodules.stationary = memory = ram(
            cfg.delta_bits, 2 * cfg.psum_depth, style="block" if cfg.copies else None
        )
        write, read = memory.write_port(), memory.read_port()
        stationary_word = read.data
        m.d.comb += [
            write.en.eq(control.stat_we),
            write.addr.eq(control.stat_waddr),
            write.data.eq(self.stat_data),
            read.en.eq(control.stat_re),
            read.addr.eq(control.stat_raddr),
        ]
        psum_words = []
        for bank in range(2):
            m.submodules[f"psum{bank}"] = memory = ram(acc_bits, cfg.psum_depth)
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(control.psum_we[bank]),
                write.addr.eq(control.psum_waddr),
                write.data.eq(acc),
                read.en.eq(control.psum_re[bank]),
                read.addr.eq(control.psum_raddr[bank]),
            ]
            psum_words.append(read.data)

        # T1: the operands meet.
        gathered = Signal(signed(a_bits), reset_less=True)
        other = Signal(signed(a_bits), reset_less=True)
        # Slices behind a multiplexer: `word_select` by a signal would become a multiply and a shift.
        elements = Array(gathered_word[n * a_bits : (n + 1) * a_bits] for n in range(cfg.bus_elements))
        stationary = Mux(control.half_1, stationary_word[a_bits:], stationary_word[:a_bits])
        with m.If(control.operand_en_1):
            m.d.sync += [
                gathered.eq(elements[control.pick_1]),
                other.eq(Mux(control.dot_1, stationary, control.value_1)),
            ]

        # T2: the only multiplier, and the partial sum or what is on its way to it.
        product = Signal(signed(2 * a_bits), reset_less=True)
        base = Signal(signed(acc_bits), reset_less=True)
        late = Signal(signed(acc_bits), reset_less=True)
        with m.If(control.product_en_2):
            m.d.sync += product.eq(gathered * other)
        with m.If(control.base_zero_2):
            m.d.sync += base.eq(0)
        with m.Elif(control.base_en_2), m.Switch(control.base_2):
            with m.Case(2):
                m.d.sync += base.eq(acc)
            with m.Case(3):
                m.d.sync += base.eq(late)
            with m.Default():
                m.d.sync += base.eq(Mux(control.psum_bank_2, psum_words[1], psum_words[0]))

        # T3: accumulate. T4: the write above takes acc, and a copy of it serves distance 3.
        with m.If(control.acc_en_3):
            m.d.sync += acc.eq(Mux(control.forward_3, acc, base) + product)
        with m.If(control.late_en_4):
            m.d.sync += late.eq(acc)

        # By AND and OR: rows that are not asked answer zero, so that the drain need not choose among them.
        m.d.comb += [
            self.product.eq(product),
            self.side_q.eq(
                psum_words[0] & control.side_1[0].replicate(acc_bits)
                | psum_words[1] & control.side_1[1].replicate(acc_bits)
            ),
        ]
        return m
