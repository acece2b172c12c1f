"""Coefficient unit: runs a program on the records of a group of channels.

One `RealUnit`, a register file with a place a channel, and the records. An instruction is issued for the
channels of the group one after the other, so the pipeline is full and a result is there when the next
instruction asks for it.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import FACTOR_BITS, PLAIN_BITS, RECORD_WORDS, SQUARE_BITS, TERM_BITS, WORD_MANTISSA
from rtl.vector.command import VECTOR_COMMAND
from rtl.vector.peak_finder import Q_BITS
from rtl.vector.programs import PROGRAMS, REGISTERS, Constant, Instruction, Source, Target
from rtl.vector.real_unit import EXPONENT_BITS, MANTISSA, NUMBER, RealUnit

COEFFICIENTS = data.StructLayout(
    {"a": signed(FACTOR_BITS), "b": signed(FACTOR_BITS), "c": signed(TERM_BITS), "q": signed(Q_BITS)}
)
INSTRUCTION = data.StructLayout(
    {
        "op": 4,
        "source": 3,
        "x": 4,
        "y_constant": 1,
        "y": 4,
        "target": 2,
        "place": 4,
        "negate": 1,
        "clamp": 1,
        "halve": 1,
        "end": 1,
    }
)


def record_width(cfg: Config) -> int:
    """Bits of a piece of a record: as much of it as a beat holds."""
    return min(32 * RECORD_WORDS, cfg.beat_bits)


def record_pieces(cfg: Config) -> int:
    """Beats of a record."""
    return 32 * RECORD_WORDS // record_width(cfg)


def encode(instruction: Instruction, end: bool) -> int:
    """An instruction as the ROM holds it."""
    fields = {
        "op": instruction.op,
        "source": instruction.source,
        "x": instruction.x,
        "y_constant": instruction.y_constant,
        "y": instruction.y,
        "target": instruction.target,
        "place": instruction.place,
        "negate": instruction.negate,
        "clamp": instruction.clamp,
        "halve": instruction.halve,
        "end": end,
    }
    return INSTRUCTION.const(fields).as_bits()


class CoefficientUnit(wiring.Component):
    """A program on a group of channels.

    Law: `start` in cycle s, `done` is low from s + 1 and high again from s + 1 + n * max(count, SPACING) + SPACING,
    with n instructions in the program.

    Args:
        cfg: widths.
        elements: channels whose sums arrive together (V).
        group: channels of a group, a power of two, at least V and E.

    Ports:
        start: pulse. program: which. count: channels, 1 to group; all stable until done. command, a_exponent,
        b_exponent, learning: constants of the program, likewise.
        sum_en, sum_addr, sum_plain, sum_product: sums of V channels, channel addr * V + v.
        record_en, record_addr, record_in: a piece of a record; channel * pieces + piece. record_out: the piece at
        record_addr, one cycle later; only while done.
        coefficients: what the program CONSTANT found; it keeps them.
    """

    SPACING = RealUnit.LATENCY + 3  # memory, choice of operands, write

    def __init__(self, cfg: Config, elements: int, group: int) -> None:
        self._cfg, self._elements, self._group = cfg, elements, group
        self._pieces = record_pieces(cfg)
        super().__init__(
            {
                "start": In(1),
                "program": In(range(len(PROGRAMS))),
                "count": In(range(group + 1)),
                "done": Out(1, init=1),
                "command": In(VECTOR_COMMAND),
                "a_exponent": In(signed(8)),
                "b_exponent": In(signed(8)),
                "learning": In(32),
                "sum_en": In(1),
                "sum_addr": In(range(max(2, group // elements))),
                "sum_plain": In(elements * PLAIN_BITS),
                "sum_product": In(elements * SQUARE_BITS),
                "record_en": In(1),
                "record_addr": In(range(group * self._pieces)),
                "record_in": In(record_width(cfg)),
                "record_out": Out(record_width(cfg)),
                "coefficients": Out(COEFFICIENTS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, group, elements = self._cfg, self._group, self._elements
        m = Module()
        rom, entries = [], []
        for program in PROGRAMS:
            entries.append(len(rom))
            rom += [encode(i, end=i is program[-1]) for i in program]
        m.submodules.rom = instructions = Memory(shape=INSTRUCTION.size, depth=len(rom), init=rom)
        fetch = instructions.read_port()
        instruction = Signal(INSTRUCTION)
        m.d.comb += instruction.as_value().eq(fetch.data)

        def delay(source: Signal, name: str, cycles: int = 1, resets: bool = False) -> Signal:
            for n in range(cycles):
                register = Signal(source.shape(), name=f"{name}_d{n}", reset_less=not resets)
                m.d.sync += register.eq(source)
                source = register
            return source

        # Issue: channel after channel, at least SPACING cycles an instruction.
        running, draining = Signal(), Signal()
        channel = Signal(range(max(group, self.SPACING) + 1))
        pc, pc_next = Signal(range(len(rom) + 1)), Signal(range(len(rom) + 1))
        issue, last = Signal(), Signal()
        m.d.comb += [
            issue.eq(running & (channel < self.count)),
            last.eq((channel + 1 >= self.count) & (channel >= self.SPACING - 1)),
            pc_next.eq(pc),
            fetch.addr.eq(pc_next),
        ]
        m.d.sync += pc.eq(pc_next)
        with m.If(self.start):
            m.d.comb += pc_next.eq(Array(entries)[self.program])
            m.d.sync += [running.eq(1), channel.eq(0), self.done.eq(0)]
        with m.Elif(running):
            m.d.sync += channel.eq(channel + 1)
            with m.If(last):
                m.d.comb += pc_next.eq(pc + 1)
                m.d.sync += channel.eq(0)
                with m.If(instruction.end):
                    m.d.sync += [running.eq(0), draining.eq(1)]
        with m.Elif(draining):
            m.d.sync += channel.eq(channel + 1)
            with m.If(channel == self.SPACING - 1):
                m.d.sync += [draining.eq(0), self.done.eq(1)]

        # Memories: numbers (two copies, two operands), sums, records.
        writes, result = Signal(), Signal(NUMBER)
        write_place = Signal(range(REGISTERS * group))
        bits = log2_exact(group, "group")
        copies = []
        for name, register in (("x", instruction.x), ("y", instruction.y)):
            memory = Memory(shape=NUMBER.size, depth=REGISTERS * group, init=[])
            m.submodules[f"numbers_{name}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(writes),
                write.addr.eq(write_place),
                write.data.eq(result.as_value()),
                read.addr.eq(Cat(channel[:bits], register) if bits else register),
            ]
            number = Signal(NUMBER, name=f"number_{name}")
            m.d.comb += number.as_value().eq(read.data)
            copies.append(number)
        sum_log2 = log2_exact(elements, "elements")
        plains, products = [], []
        for name, source, width, found in (
            ("plain", self.sum_plain, PLAIN_BITS, plains),
            ("product", self.sum_product, SQUARE_BITS, products),
        ):
            for v in range(elements):
                memory = Memory(shape=signed(width), depth=max(2, group // elements), init=[])
                m.submodules[f"{name}{v}"] = memory
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.en.eq(self.sum_en),
                    write.addr.eq(self.sum_addr),
                    write.data.eq(source.word_select(v, width)),
                    read.addr.eq(channel[:bits] >> sum_log2),
                ]
                found.append(read.data)
        width, pieces = record_width(cfg), self._pieces
        words = width // 32
        m.submodules.records = records = Memory(shape=width, depth=group * pieces, init=[])
        record_write, record_read = records.write_port(granularity=16), records.read_port()
        piece_bits, word_bits = log2_exact(pieces, "pieces"), log2_exact(words, "words")
        word_en = Signal(width // 16)
        word_addr = Signal(range(group * pieces))
        word_data = Signal(32)
        m.d.comb += [
            record_write.en.eq(Mux(self.record_en, ~Const(0, width // 16), word_en)),
            record_write.addr.eq(Mux(self.record_en, self.record_addr, word_addr)),
            record_write.data.eq(Mux(self.record_en, self.record_in, word_data.replicate(words))),
            record_read.addr.eq(
                Mux(running, Cat(instruction.x[word_bits : word_bits + piece_bits], channel[:bits]), self.record_addr)
            ),
            self.record_out.eq(record_read.data),
        ]

        # A cycle later: choose operands.
        inst_1 = Signal(INSTRUCTION, reset_less=True)
        lane_1 = Signal(max(1, sum_log2), reset_less=True)
        m.d.sync += [inst_1.eq(instruction), lane_1.eq(channel[:sum_log2] if sum_log2 else 0)]
        word = Signal(32)
        m.d.comb += word.eq(record_read.data.word_select(inst_1.x[:word_bits] if word_bits else 0, 32))
        constants = self._constants(m)
        x_constant, y_constant = Signal(NUMBER), Signal(NUMBER)
        m.d.comb += [x_constant.eq(constants[inst_1.x]), y_constant.eq(constants[inst_1.y])]
        m.submodules.real = real = RealUnit()
        x_m, x_e = Signal(signed(SQUARE_BITS), reset_less=True), Signal(signed(EXPONENT_BITS), reset_less=True)
        y = Signal(NUMBER, reset_less=True)
        both = Signal(signed(9))
        m.d.comb += both.eq(self.a_exponent + Mux(self.command.backward, self.b_exponent, self.a_exponent))
        with m.Switch(inst_1.source):
            with m.Case(Source.RECORD):
                m.d.sync += [x_m.eq(word[:WORD_MANTISSA].as_signed()), x_e.eq(word[WORD_MANTISSA:].as_signed())]
            with m.Case(Source.PLAIN):
                m.d.sync += [x_m.eq(Array(plains)[lane_1]), x_e.eq(self.a_exponent)]
            with m.Case(Source.PRODUCT):
                m.d.sync += [x_m.eq(Array(products)[lane_1]), x_e.eq(both)]
            with m.Case(Source.CONSTANT):
                m.d.sync += [x_m.eq(x_constant.m), x_e.eq(x_constant.e)]
            with m.Default():
                m.d.sync += [x_m.eq(copies[0].m), x_e.eq(copies[0].e)]
        m.d.sync += y.eq(Mux(inst_1.y_constant, y_constant.as_value(), copies[1].as_value()))
        inst_2 = Signal(INSTRUCTION, reset_less=True)
        m.d.sync += inst_2.eq(inst_1)
        m.d.comb += [
            real.op.eq(inst_2.op),
            real.negate.eq(inst_2.negate),
            real.clamp.eq(inst_2.clamp),
            real.halve.eq(inst_2.halve),
            real.x_m.eq(x_m),
            real.x_e.eq(x_e),
            real.y.eq(y),
        ]

        # The result goes where the instruction said.
        length = RealUnit.LATENCY + 2
        target, place = delay(instruction.target, "target", length), delay(instruction.place, "place", length)
        to_channel, valid = delay(channel, "to_channel", length), delay(issue, "valid", length, resets=True)
        halves = Signal(2)
        m.d.comb += [
            writes.eq(valid & (target == Target.REGISTER)),
            write_place.eq(Cat(to_channel[:bits], place)),
            result.eq(real.number),
            halves.eq(Array([0b00, 0b11, 0b01, 0b10])[target]),
            word_en.eq(Mux(valid, halves << Cat(Const(0, 1), place[:word_bits] if word_bits else Const(0, 1)), 0)),
            word_addr.eq(Cat(place[word_bits : word_bits + piece_bits], to_channel[:bits])),
            word_data.eq(Mux(target == Target.HIGH, real.word << 16, real.word)),
        ]
        # A command's own coefficients are kept in registers, by the words they would have in a record.
        with m.If(valid & (self.program == 0)), m.Switch(target):
            with m.Case(Target.LOW):
                m.d.sync += self.coefficients.a.eq(real.word)
            with m.Case(Target.HIGH):
                m.d.sync += self.coefficients.b.eq(real.word)
            with m.Case(Target.WORD):
                with m.If(place[0]):
                    m.d.sync += self.coefficients.c.eq(real.word)
                with m.Else():
                    m.d.sync += self.coefficients.q.eq(real.word)
        return m

    def _constants(self, m: Module) -> Array:
        """The numbers of `Constant`."""
        command = self.command
        words = {
            Constant.A_FACTOR: command.a_factor,
            Constant.B_FACTOR: command.b_factor,
            Constant.C_TERM: command.c_term,
            Constant.INVERSE_COUNT: command.inverse_count,
            Constant.UNBIAS: command.unbias,
            Constant.EPSILON: command.epsilon,
            Constant.MOMENTUM: command.momentum,
        }
        given = {
            Constant.ZERO: (Const(0), Const(0)),
            Constant.THREE: (Const(3 << (MANTISSA - 2)), Const(-(MANTISSA - 2), signed(8))),
            Constant.A_SCALE: (Const(1), self.a_exponent),
            Constant.B_SCALE: (Const(1), self.b_exponent),
            Constant.LOWER: (Const(1), Const(FACTOR_BITS - TERM_BITS, signed(8))),
            Constant.RATE: (self.learning[:16], self.learning[16:].as_signed()),
        }
        given |= {c: (w[:WORD_MANTISSA].as_signed(), w[WORD_MANTISSA:].as_signed()) for c, w in words.items()}
        constants = []
        for constant in Constant:
            number = Signal(NUMBER, name=constant.name.lower())
            mantissa, exponent = given[constant]
            m.d.comb += [number.m.eq(mantissa), number.e.eq(exponent)]
            constants.append(number)
        return Array(constants)
