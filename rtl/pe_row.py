"""Datapath of one row: its control pipeline, one PE a column, the adder tree over the samples.

The row controller decides; this module obeys, one operation a cycle. Columns are samples of the
minibatch, so everything but what is loaded and what the side port reads is common to the row.
"""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.adder_tree import AdderTree
from rtl.pe import PE
from rtl.row_control import RowControl, gather_word_bits


class RowDatapath(wiring.Component):
    """C PEs driven by one operation stream, and the sum of their products.

    Latency, from the cycle T0 in which the operation is presented:
        MAC: the sum is in the psum bank for side reads issued in T0 + `MAC_LATENCY` or later.
        DOT: `sum` and `sum_valid` of the operation marked `dot_last` in T0 +
        `dot_latency(cfg)`, which is 4 + log2 C.
    One operation a cycle (II = 1), no stall. For what the driver must observe see `RowControl`.

    Args:
        cfg: widths and sizes.
        emit: True to use the PE as an `Instance` (for `rtl.emit.verilog`, which appends the module),
            False to build it as a submodule (for Amaranth's simulator).

    Ports (besides those of `RowControl`, same names):
        dot_first, dot_last: this DOT starts, ends the sum of one weight; both may be set.
        load_data: a beat; the E operands of column n at bits [n*E*A, (n+1)*E*A).
        stat_data: stationary word of column n, 2A bits, at bits [n*2A, (n+1)*2A).
        side_q: psum word of column n, signed `acc_bits`, at bits [n*ACC, (n+1)*ACC), one cycle
        after side_read, otherwise zero.
        sum, sum_valid: see above; signed `acc_bits`; valid for one cycle.
    """

    MAC_LATENCY = PE.WRITE_LATENCY

    def __init__(self, cfg: Config, *, emit: bool = False) -> None:
        self._cfg, self._emit = cfg, emit
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
                "dot_first": In(1),
                "dot_last": In(1),
                "load_we": In(1),
                "load_addr": In(gather_word_bits(cfg)),
                "load_data": In(cfg.beat_bits),
                "side_addr": In(psum),
                "side_read": In(1),
                "side_clear": In(1),
                "stat_bank": In(1),
                "stat_we": In(1),
                "stat_addr": In(psum),
                "stat_data": In(cfg.columns * cfg.delta_bits),
                "side_q": Out(cfg.columns * cfg.acc_bits),
                "sum": Out(signed(cfg.acc_bits)),
                "sum_valid": Out(1),
            }
        )

    @staticmethod
    def dot_latency(cfg: Config) -> int:
        """Cycles from the DOT marked `dot_last` to `sum_valid`: 4 + log2 C."""
        return PE.LATENCY + AdderTree.latency(cfg.columns)

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        m.submodules.control = control = RowControl(cfg)
        for name in (
            "op",
            "value",
            "gather_addr",
            "psum_addr",
            "half",
            "bypass",
            "gather_bank",
            "psum_bank",
            "load_we",
            "load_addr",
            "side_addr",
            "side_read",
            "side_clear",
            "stat_bank",
            "stat_we",
            "stat_addr",
        ):
            m.d.comb += getattr(control, name).eq(getattr(self, name))

        products = Signal(cfg.columns * cfg.delta_bits)
        for column in range(cfg.columns):
            load = self.load_data.word_select(column, cfg.bus_elements * cfg.operand_bits)
            stat = self.stat_data.word_select(column, cfg.delta_bits)
            side_q = Signal(signed(cfg.acc_bits), name=f"side_q{column}")
            product = Signal(signed(cfg.delta_bits), name=f"product{column}")
            if self._emit:
                m.submodules[f"pe{column}"] = Instance(
                    "pe",
                    i_clk=ClockSignal(),
                    i_rst=ResetSignal(),
                    i_control=control.control,
                    i_load_data=load,
                    i_stat_data=stat,
                    o_side_q=side_q,
                    o_product=product,
                )
            else:
                m.submodules[f"pe{column}"] = pe = PE(cfg)
                m.d.comb += [
                    pe.control.eq(control.control),
                    pe.load_data.eq(load),
                    pe.stat_data.eq(stat),
                    side_q.eq(pe.side_q),
                    product.eq(pe.product),
                ]
            m.d.comb += [
                self.side_q.word_select(column, cfg.acc_bits).eq(side_q),
                products.word_select(column, cfg.delta_bits).eq(product),
            ]

        # The marks of a DOT travel beside it; only `en` acts, so only it is reset.
        en, first, last = self.op[1], self.dot_first, self.dot_last
        for stage in range(1, PE.LATENCY + 1):
            next_en = Signal(name=f"dot_en_{stage}")
            next_first = Signal(name=f"dot_first_{stage}", reset_less=True)
            next_last = Signal(name=f"dot_last_{stage}", reset_less=True)
            m.d.sync += [next_en.eq(en), next_first.eq(first), next_last.eq(last)]
            en, first, last = next_en, next_first, next_last

        m.submodules.tree = tree = AdderTree(cfg.columns, cfg.delta_bits, cfg.acc_bits)
        m.d.comb += [
            tree.terms.eq(products),
            tree.en.eq(en),
            tree.first.eq(first),
            tree.last.eq(last),
            self.sum.eq(tree.sum),
            self.sum_valid.eq(tree.valid),
        ]
        return m
