"""Control pipeline of a row: its operations become the control word of its PEs.

All PEs of a row do the same in the same cycle, so what delays and decodes an operation exists once a row and not once
a PE. The schedule is that of `rtl.pe`.

Nor is a partial sum cleared in the PEs: a bit for each address, beside the memories and written and read with them,
says whether the word there is alive, or counts as zero because nothing was added since it was drained. So no zero is
ever written, and the side port needs no way to the memories' inputs.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.ram import ram


class Op(IntEnum):
    """What a row asks of its PEs in one cycle. MAC and DOT each own one bit."""

    NOP = 0
    MAC = 1
    DOT = 2


def gather_word_bits(cfg: Config) -> int:
    """Width of the word address of a gather bank (a word is what one beat brings a column)."""
    return log2_exact(cfg.gather_depth // cfg.bus_elements, "gather words")


def control_layout(cfg: Config) -> data.StructLayout:
    """The control word of a row's PEs; the number in a name is the stage that uses the field."""
    word, psum = gather_word_bits(cfg), log2_exact(cfg.psum_depth, "psum_depth")
    return data.StructLayout(
        {
            "gather_re": 1,  # T0
            "gather_raddr": word + 1,  # the bank is the highest bit
            "gather_we": 1,  # from the bus
            "gather_waddr": word + 1,
            "pick_1": log2_exact(cfg.bus_elements, "bus_elements"),
            "value_1": cfg.operand_bits,
            "operand_en_1": 1,
            "dot_1": 1,
            "half_1": 1,
            "stat_re": 1,
            "stat_raddr": psum + 1,
            "stat_we": 1,
            "stat_waddr": psum + 1,
            "product_en_2": 1,
            "psum_bank_2": 1,  # MAC: bank whose word arrives in T2
            "base_2": 2,  # 0 memory, 2 acc, 3 acc one cycle ago
            "base_en_2": 1,
            "base_zero_2": 1,  # the word in memory counts as zero
            "forward_3": 1,
            "acc_en_3": 1,
            "late_en_4": 1,
            "psum_re": 2,
            "psum_raddr": data.ArrayLayout(psum, 2),
            "psum_we": 2,
            "psum_waddr": psum,
            "side_1": 2,  # per bank: its word is on side_q; of neither, side_q is zero
        }
    )


class RowControl(wiring.Component):
    """Delays and decodes the operations of a row into the control word of its PEs.

    All inputs are sampled every cycle; one operation a cycle (II = 1). Banks travel with the
    operation, so the last operations of a working set still write its bank after the input flips.

    Rules for the driver (not checked in hardware):
      * the side port leaves the bank a flip has given it alone until 5 cycles after the last MAC
        on it (first use: T0 + 5); compute has precedence on both ports of a bank.
      * an address that the side port clears is not read there in the next cycle.

    Args:
        cfg: widths and depths.

    Ports:
        op: `Op`; 3 is not an operation. value: broadcast weight (MAC), signed A bits.
        gather_addr, psum_addr: element and partial-sum address (DOT: of the stationary word). half: DOT,
        which A-bit half of that word is the operand. bypass: distance in cycles to the latest earlier MAC on
        the same psum bank and address if that is 1, 2 or 3, otherwise 0.
        gather_bank, psum_bank, stat_bank: banks of compute; loads and side port use the other ones.
        load_we, load_addr: gathered operand from the bus, word address. stat_we, stat_addr: stationary operand.
        side_addr, side_read, side_clear: side port; side_read reads that word, side_clear makes it zero, a cycle later.
        control: the control word.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        psum = log2_exact(cfg.psum_depth, "psum_depth")
        super().__init__(
            {
                "op": In(2),
                "value": In(signed(cfg.operand_bits)),
                "gather_addr": In(log2_exact(cfg.gather_depth, "gather_depth")),
                "psum_addr": In(psum),
                "half": In(1),
                "bypass": In(2),
                "gather_bank": In(1),
                "psum_bank": In(1),
                "load_we": In(1),
                "load_addr": In(gather_word_bits(cfg)),
                "side_addr": In(psum),
                "side_read": In(1),
                "side_clear": In(1),
                "stat_bank": In(1),
                "stat_we": In(1),
                "stat_addr": In(psum),
                "control": Out(control_layout(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control
        pick_bits = len(control.pick_1)

        def stage(name: str, source: Signal, enable: object = None, resets: bool = False) -> Signal:
            """A register behind `source`; payload needs no reset, the flags that act do."""
            register = Signal(source.shape(), name=name, reset_less=not resets)
            if enable is None:
                m.d.sync += register.eq(source)
            else:
                with m.If(enable):
                    m.d.sync += register.eq(source)
            return register

        mac, dot, active = Signal(), Signal(), Signal()
        m.d.comb += [mac.eq(self.op[0]), dot.eq(self.op[1]), active.eq(self.op.any())]
        mac_1 = stage("mac_1", mac, resets=True)
        dot_1 = stage("dot_1", dot, resets=True)
        active_1 = stage("active_1", active, resets=True)
        mac_2 = stage("mac_2", mac_1, resets=True)
        active_2 = stage("active_2", active_1, resets=True)
        mac_3 = stage("mac_3", mac_2, resets=True)
        mac_4 = stage("mac_4", mac_3, resets=True)

        # Payload moves only behind an operation: idle cycles toggle nothing.
        addr_1 = stage("addr_1", self.psum_addr, mac)
        addr_2 = stage("addr_2", addr_1, mac_1)
        addr_3 = stage("addr_3", addr_2, mac_2)
        addr_4 = stage("addr_4", addr_3, mac_3)
        bank_1 = stage("bank_1", self.psum_bank, mac)
        bank_2 = stage("bank_2", bank_1, mac_1)
        bank_3 = stage("bank_3", bank_2, mac_2)
        bank_4 = stage("bank_4", bank_3, mac_3)
        bypass_1 = stage("bypass_1", self.bypass, mac)
        bypass_2 = stage("bypass_2", bypass_1, mac_1)
        bypass_3 = stage("bypass_3", bypass_2, mac_2)
        pick = Signal(pick_bits)
        m.d.comb += pick.eq(self.gather_addr[:pick_bits])
        side_bank = Signal()
        m.d.comb += side_bank.eq(~self.psum_bank)

        m.d.comb += [
            control.gather_re.eq(active),
            control.gather_raddr.eq(Cat(self.gather_addr[pick_bits:], self.gather_bank)),
            control.gather_we.eq(self.load_we),
            control.gather_waddr.eq(Cat(self.load_addr, ~self.gather_bank)),
            control.pick_1.eq(stage("pick_1", pick, active)),
            control.value_1.eq(stage("value_1", self.value, mac)),
            control.operand_en_1.eq(active_1),
            control.dot_1.eq(dot_1),
            control.half_1.eq(stage("half_1", self.half, dot)),
            control.stat_re.eq(dot),
            control.stat_raddr.eq(Cat(self.psum_addr, self.stat_bank)),
            control.stat_we.eq(self.stat_we),
            control.stat_waddr.eq(Cat(self.stat_addr, ~self.stat_bank)),
            control.product_en_2.eq(active_2),
            control.psum_bank_2.eq(bank_2),
            control.base_2.eq(bypass_2),
            control.base_en_2.eq(mac_2),
            control.forward_3.eq(bypass_3 == 1),
            control.acc_en_3.eq(mac_3),
            control.late_en_4.eq(mac_4),
            control.psum_waddr.eq(addr_4),
        ]
        # A word dies a cycle behind its address, so that it is out before it.
        clear_1 = stage("clear_1", self.side_clear, resets=True)
        clear_addr_1 = stage("clear_addr_1", self.side_addr, self.side_clear)
        clear_bank_1 = stage("clear_bank_1", side_bank, self.side_clear)
        alive = Signal(2)
        for bank in range(2):
            reads_mac = Signal(name=f"reads_mac{bank}")
            writes = Signal(name=f"writes{bank}")
            clears = Signal(name=f"clears{bank}")
            side = Signal(name=f"side{bank}")
            m.submodules[f"alive{bank}"] = memory = ram(1, self._cfg.psum_depth)
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                reads_mac.eq(mac_1 & (bank_1 == bank)),
                writes.eq(mac_4 & (bank_4 == bank)),
                clears.eq(clear_1 & (clear_bank_1 == bank)),
                side.eq(self.side_read & (side_bank == bank)),
                control.psum_re[bank].eq(reads_mac | side),
                control.psum_raddr[bank].eq(Mux(reads_mac, addr_1, self.side_addr)),
                control.psum_we[bank].eq(writes),
                write.en.eq(writes | clears),
                write.addr.eq(Mux(writes, addr_4, clear_addr_1)),
                write.data.eq(writes),
                read.en.eq(control.psum_re[bank]),
                read.addr.eq(control.psum_raddr[bank]),
                alive[bank].eq(read.data),
                control.side_1[bank].eq(stage(f"side{bank}_1", side) & alive[bank]),
            ]
        m.d.comb += control.base_zero_2.eq(mac_2 & ~bypass_2[1] & ~Mux(bank_2, alive[1], alive[0]))
        return m
