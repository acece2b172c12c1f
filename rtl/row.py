"""A row of the array: controller, PEs, weight update and encoder, wired.

What a row sees is what all rows see, broadcast; it picks out what carries its own number. Rows never talk to each
other, but for the drain of a build with `Config.copies`: its questions go from row to row, a cycle each, and on the way
back every row adds its answer to that of the row before, so that nothing but the answer of the last one crosses the
device. Converted once and instantiated by name (`rtl.emit`), like the PE.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch import trace
from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.box_walk import AXES
from rtl.csb_encoder import CsbEncoder, record_info
from rtl.dense_controller import DenseController
from rtl.dense_encoder import DenseEncoder
from rtl.gradient_buffer import GradientBuffer
from rtl.lane_tally import words_per_cycle
from rtl.payload import payload
from rtl.pe_row import RowDatapath
from rtl.requantise import SHIFT_BITS
from rtl.row_controller import RowController
from rtl.weight_update import WeightUpdate

#: Ports of the controller that are the same for all rows; a dense one lacks some, and `record_words` is its own.
_CONTROLLER = (
    "load_start",
    "load_exact",
    "load_valid",
    "load_is_value",
    "load_before",
    "load_offsets",
    "load_words",
    "load_slot",
    "load_channel",
    "load_kb",
    "load_cb",
    "entry_valid",
    "entry_slot",
    "entry_word",
    "entry_group",
    "entry_record_base",
    "entry_cb",
    "tap_we",
    "tap",
    "box",
    "count",
    "tap_bank",
    "phase",
    "words",
    "mask_beats",
    "record_words",
    "block_rows",
    "log2_blocks",
    "taps",
    *(f"{name}_{axis}" for name in ("gather", "psum") for axis in AXES),
    "log2_positions",
    "k0",
    "k_end",
    "c_end",
    "bias",
    "bias_tap",
    "depthwise",
    "wide",
    "salt",
    "scale_t",
    "dense_mode",
    "step",
    "log2_period",
    "command",
    "compute_start",
)
#: With `cfg.copies` a row has registers of its own for all it is given but these.
_FAR = (
    "number",
    "tap_we",
    "tap",
    "box",
    "count",
    "tap_bank",
    "command",
)
#: What the drain asks of a row, and what it hears.
QUESTIONS = (
    *("side_addr", "side_read", "side_clear"),
    *("drain_start", "drain_next", "drain_mask_next", "drain_mask_last", "drain_info_next"),
)
ANSWERS = ("side_q", "drain_data", "drain_mask", "drain_info")
_BEFORE = tuple(f"{name}_before" for name in ANSWERS)
#: Of these, a bit a row; the others are the same for all.
_PICKED = ("side_read", "side_clear", "drain_next", "drain_mask_next", "drain_info_next")
#: What acts by itself, so that a reset must reach its register.
_STROBES = (
    *("load_start", "load_valid", "entry_valid", "col_we", "stat_we", "compute_start"),
    *(f"{name}_bank" for name in ("weight", "gather", "psum", "stat", "update")),
    *(name for name in QUESTIONS if name not in ("side_addr", "drain_mask_last")),
)
_OPERATION = ("op", "value", "gather_addr", "psum_addr", "half", "bypass", "dot_first", "dot_last")
_VISIT = (
    "visit_bit",
    "visit_has_value",
    "visit_delta",
    "visit_record_last",
    "visit_next_explored",
    "visit_next_count",
)
_FACTOR = ("factor_enable", "factor")
_UPDATED = (
    "valid",
    "keep",
    "candidate",
    "bit",
    "word_last",
    "record_last",
    "next_explored",
    "next_count",
)


class Row(wiring.Component):
    """One row. Timing: `RowController` for operations, `RowDatapath` and `WeightUpdate` for what follows them.

    Args:
        cfg: widths and sizes. Without `sparse` the row has a `DenseController` and a `DenseEncoder`.
        emit: PEs as instances (for `rtl.emit.verilog`) or as submodules (for Amaranth's simulator).

    Ports: those of the units, same names, but for
        With cfg.copies registers stand in front of all that is loaded (bus_data, load_*, entry_*, col_*, stat_*), of
        the banks of compute and loads (weight_bank, gather_bank, stat_bank) and of what is constant while a working set
        computes, which must then be there with compute_start: all of it is a cycle late, and the wires to the row end
        there. They carry the attribute `keep`, since equal registers would be merged. compute_start and what the drain
        asks (side_*, drain_*) have such registers in every build.
        number: of this row, constant. load_all, load_row, load_first, entry_row: a record is this row's if load_all or
        load_row is its number (load_first makes an entry unless load_all); a lane group if entry_row is.
        weight_bank, gather_bank, psum_bank, stat_bank, update_bank: banks of compute (update_bank: written).
        bus_data: a beat for one of col_we, load_valid, and stat_we, whose word row stat_row owns; of that,
        `stationary_pack` operands a column.
        side_addr, side_read, side_clear: partial sums, bank that compute does not use; side_q: the word,
        `drain_latency(cfg)` cycles after side_read, otherwise zero.
        drain_*: update buffer, bank that compute does not write. Questions as in `CsbEncoder`; drain_data, drain_mask,
        drain_info: answers, `drain_latency(cfg)` cycles later; with `copies` otherwise zero, without they stay.
        Bit 0 of side_read, side_clear, drain_next, drain_mask_next, drain_info_next is for this row, the others for
        those behind it in its chain of `Config.chain_rows`. Where there are others: *_on: all questions, for the next
        row, a cycle later; *_before: answers of the row before, which join those of this one in its registers.
        sum_add, sum_store: see `GradientBuffer`; what is stored is not updated.
        is_busy, is_scan; update_error; kept, seen, adopted, evicted, saturated (events of the weight update): a cycle
        later.
    """

    START_LATENCY = 1  # register of compute_start
    DRAIN_LATENCY = 3  # register of the question, memory, register of the answer: in the row or behind all rows

    def __init__(self, cfg: Config, *, emit: bool = False) -> None:
        self._cfg, self._emit = cfg, emit
        self._controller = RowController(cfg) if cfg.sparse else DenseController(cfg)
        self._common = [name for name in _CONTROLLER if name in self._controller.signature.members]
        row = max(1, (cfg.rows - 1).bit_length())
        address = log2_exact(cfg.gather_depth // cfg.bus_elements, "gather words")
        psum = log2_exact(cfg.psum_depth, "psum_depth")
        ports = {name: In(getattr(self._controller, name).shape()) for name in self._common}
        ports |= {
            "number": In(row),
            "load_all": In(1),
            "load_row": In(row),
            "load_first": In(1),
            "entry_row": In(row),
            **{f"{name}_bank": In(1) for name in ("weight", "gather", "psum", "stat", "update")},
            "bus_data": In(cfg.beat_bits),
            "col_we": In(1),
            "col_addr": In(address),
            "stat_we": In(1),
            "stat_row": In(row),
            "stat_addr": In(psum),
            "side_addr": In(psum),
            "side_read": In(cfg.chain_rows),
            "side_clear": In(cfg.chain_rows),
            "side_q": Out(cfg.columns * cfg.acc_bits),
            "lr": In(cfg.lr_bits),
            "shift": In(signed(SHIFT_BITS)),
            "sum_add": In(1),
            "sum_store": In(1),
            "drain_start": In(1),
            "drain_next": In(cfg.chain_rows),
            "drain_data": Out(cfg.beat_bits),
            "load_error": Out(2),
            "update_error": Out(1),
            "sum_error": Out(1),
            "done": Out(1),
            "is_busy": Out(1),
            "is_scan": Out(1),
            **{name: Out(1) for name in ("kept", "seen", "adopted", "evicted", "saturated")},
        }
        if cfg.sparse:
            ports |= {
                "theta": In(cfg.delta_bits),
                "drain_mask_next": In(cfg.chain_rows),
                "drain_mask_last": In(1),
                "drain_info_next": In(cfg.chain_rows),
                "drain_mask": Out(words_per_cycle(cfg) * cfg.mask_bits),
                "drain_info": Out(record_info(cfg).size),
            }
        if cfg.chain_rows > 1:
            ports |= {f"{name}_on": Out(ports[name].shape) for name in QUESTIONS if name in ports}
            ports |= {f"{name}_before": In(ports[name].shape) for name in ANSWERS if name in ports}
        if cfg.trace:
            ports["trace"] = Out(trace.BITS)
        super().__init__(ports)

    @classmethod
    def drain_latency(cls, cfg: Config) -> int:
        """Cycles from a question of the drain to the row's answer. A register for every row is for wires alone."""
        return cls.DRAIN_LATENCY if cfg.copies else cls.DRAIN_LATENCY - 1

    @classmethod
    def answered(cls, cfg: Config) -> int:
        """Cycles from what the drain asks a chain of rows to the answer, behind the last register."""
        return cls.DRAIN_LATENCY + cfg.chain_rows - 1

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        m.submodules.controller = controller = self._controller
        m.submodules.datapath = datapath = RowDatapath(cfg, emit=self._emit)
        dots = RowDatapath.dot_latency(cfg)
        m.submodules.gradients = gradients = GradientBuffer(cfg, dots)
        leads = (controller.VISIT_LEAD, controller.DELTA_LEAD)
        m.submodules.update = update = WeightUpdate(cfg, dots + GradientBuffer.LATENCY, *leads)
        m.submodules.encoder = encoder = CsbEncoder(cfg) if cfg.sparse else DenseEncoder(cfg)

        kept = {"keep": True} if cfg.copies else {}
        given = {name: getattr(self, name) for name, port in self.signature.members.items() if port.flow is In}
        for name, far in given.items():
            if name in (*QUESTIONS, "compute_start") or (cfg.copies and name not in _FAR + _BEFORE):
                acts = name in _STROBES
                given[name] = Signal.like(far, name=f"near_{name}", attrs=kept, reset_less=not acts)
                m.d.sync += given[name].eq(far)
        m.d.comb += [
            controller.load_mine.eq(given["load_all"] | (given["load_row"] == self.number)),
            controller.load_first.eq(given["load_first"] & ~given["load_all"]),
            controller.entry_mine.eq(given["entry_row"] == self.number),
            controller.bank.eq(given["weight_bank"]),
        ]
        m.d.comb += [getattr(controller, name).eq(given[name]) for name in self._common]
        m.d.comb += controller.load_data.eq(given["bus_data"])
        m.d.comb += [getattr(datapath, name).eq(getattr(controller, name)) for name in _OPERATION]
        m.d.comb += [
            datapath.gather_bank.eq(given["gather_bank"]),
            datapath.psum_bank.eq(given["psum_bank"]),
            datapath.stat_bank.eq(given["stat_bank"]),
            datapath.load_we.eq(given["col_we"]),
            datapath.load_addr.eq(given["col_addr"]),
            datapath.load_data.eq(given["bus_data"]),
            datapath.stat_we.eq(given["stat_we"] & (given["stat_row"] == self.number)),
            datapath.stat_addr.eq(given["stat_addr"]),
            datapath.side_addr.eq(given["side_addr"]),
            *(getattr(datapath, name).eq(given[name][0]) for name in ("side_read", "side_clear")),
        ]
        width = cfg.stationary_pack * cfg.operand_bits
        for column in range(cfg.columns):
            operands = given["bus_data"].word_select(column, cfg.bus_elements * cfg.operand_bits)
            m.d.comb += datapath.stat_data.word_select(column, cfg.delta_bits).eq(operands[:width])

        constants = ("lr", "shift", "theta", "dense_mode", "scale_t")
        m.d.comb += [getattr(update, name).eq(given[name]) for name in constants if name in update.signature.members]
        present = [name for name in _VISIT + _FACTOR if name in update.signature.members]
        m.d.comb += [getattr(update, name).eq(getattr(controller, name)) for name in present]
        for name in [name for name in _UPDATED if name in encoder.signature.members]:
            updated = getattr(update, name)
            if cfg.copies:  # the encoder may be near the drain, which has most of its wires
                far, acts = updated, name in ("valid", "keep", "word_last")
                updated = Signal.like(far, name=f"updated_{name}", reset_less=not acts)
                m.d.sync += updated.eq(far)
            m.d.comb += getattr(encoder, name).eq(updated)
        update_starts = given["compute_start"] & (given["phase"] == Phase.WU) & ~given["sum_store"]
        for step in range(2 if cfg.copies else 1):  # long before the first visit is updated
            late = Signal(name=f"update_starts_{step + 1}", attrs=kept)
            m.d.sync += late.eq(update_starts)
            update_starts = late
        m.d.comb += [
            gradients.start.eq(given["compute_start"]),
            gradients.add.eq(given["sum_add"]),
            gradients.store.eq(given["sum_store"]),
            gradients.visit_valid.eq(controller.visit_valid),
            gradients.visit_void.eq(controller.visit_void),
            gradients.sum.eq(datapath.sum),
            update.g.eq(gradients.g),
            update.visit_valid.eq(controller.visit_valid & ~given["sum_store"]),
            update.visit_word_last.eq(controller.visit_word_last & ~given["sum_store"]),
            self.sum_error.eq(gradients.error),
        ]
        m.d.comb += [
            encoder.start.eq(update_starts),
            encoder.bank.eq(given["update_bank"]),
            *(
                getattr(encoder, name).eq(given[name][0] if name in _PICKED else given[name])
                for name in QUESTIONS
                if name in encoder.signature.members
            ),
            self.load_error.eq(controller.load_error),
            self.done.eq(controller.done),
        ]
        # What is counted elsewhere leaves the row through registers: gates that the row needs are then not drawn out.
        m.d.sync += [
            self.is_busy.eq(controller.is_busy),
            self.is_scan.eq(controller.is_scan),
            self.update_error.eq(encoder.error),
            self.seen.eq(update.valid),
            self.kept.eq(update.keep if cfg.sparse else update.valid),  # dense: what is there stays
            self.saturated.eq(update.saturated),
        ]
        if cfg.sparse:
            m.d.comb += controller.scaled.eq(update.scaled)
            m.d.sync += [self.adopted.eq(update.adopted), self.evicted.eq(update.evicted)]
        self._answer(m, given, datapath, encoder)
        if cfg.trace:
            m.d.comb += self.trace.eq(controller.trace)
        return m

    def _answer(
        self, m: Module, given: dict[str, Signal], datapath: RowDatapath, encoder: CsbEncoder | DenseEncoder
    ) -> None:
        """What the drain hears; and, in a chain, what the next row is asked."""
        cfg = self._cfg
        words = {"drain_data": ("drain_next", encoder.drain_data)}
        if cfg.sparse:
            info = Cat(getattr(encoder, f"drain_{name}") for name in record_info(cfg).members)
            words |= {"drain_mask": ("drain_mask_next", encoder.drain_mask), "drain_info": ("drain_info_next", info)}
        if not cfg.copies:
            m.d.comb += self.side_q.eq(datapath.side_q)
            m.d.comb += [getattr(self, name).eq(word) for name, (_, word) in words.items()]
            return
        # A row that is not asked answers zero, so that it need not be chosen.
        answers: dict[str, Value] = {"side_q": datapath.side_q}
        for name, (question, word) in words.items():
            asked = Signal(name=f"asked_{question}")
            m.d.sync += asked.eq(given[question][0])
            answers[name] = Mux(asked, word, 0)
        for name, answer in answers.items():
            before = getattr(self, f"{name}_before") if cfg.chain_rows > 1 else Const(0)
            m.d.sync += payload(m, getattr(self, name), f"answer_{name}").eq(answer | before)
        if cfg.chain_rows > 1:
            for name in [name for name in QUESTIONS if name in given]:
                m.d.comb += getattr(self, f"{name}_on").eq(given[name] >> 1 if name in _PICKED else given[name])
