"""Programs of the coefficient unit, written as expressions and assembled to instructions.

A program names the result of every operation once; the assembler places the names in as few registers
as are alive at a time. Each instruction is done for all channels of a group before the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from arch.vector import Word
from rtl.vector.real_unit import RealOp

REGISTERS = 16


class Source(IntEnum):
    """Where the first operand comes from."""

    REGISTER = 0
    RECORD = 1  # word of the channel's record
    PLAIN = 2  # sum of the channel
    PRODUCT = 3  # sum of squares, or of products
    CONSTANT = 4


class Constant(IntEnum):
    """Numbers that are the same for all channels."""

    ZERO = 0
    THREE = 1
    A_SCALE = 2  # 2**(exponent of operand a)
    B_SCALE = 3
    LOWER = 4  # 2**-16
    RATE = 5  # learning rate
    A_FACTOR = 6  # the rest: words of the command
    B_FACTOR = 7
    C_TERM = 8
    INVERSE_COUNT = 9
    UNBIAS = 10
    EPSILON = 11
    MOMENTUM = 12


class Target(IntEnum):
    """Where the result goes."""

    REGISTER = 0
    WORD = 1  # a word of the record
    LOW = 2  # half a word of the record
    HIGH = 3


@dataclass(frozen=True)
class Instruction:
    """One operation on all channels of a group; places are registers, words or constants."""

    op: RealOp
    source: Source
    x: int
    y_constant: bool
    y: int
    target: Target
    place: int
    negate: bool = False
    clamp: bool = False
    halve: bool = False


class Assembler:
    """Collects operations; `instructions()` places their results."""

    def __init__(self) -> None:
        self._lines: list[tuple[RealOp, object, object, tuple[Target, int] | None, dict[str, bool]]] = []

    def put(
        self, op: RealOp, x: object, y: object = Constant.ZERO, to: tuple[Target, int] | None = None, **flags: bool
    ) -> int:
        """One operation; returns the name of its result (a line number)."""
        self._lines.append((op, x, y, to, flags))
        return len(self._lines) - 1

    def load(self, source: object) -> int:
        """A number from a record's word, a sum or a word of the command."""
        return self.put(RealOp.LOAD, source)

    def mul(self, x: object, y: object, halve: bool = False) -> int:
        """Product."""
        return self.put(RealOp.MUL, x, y, halve=halve)

    def add(self, x: object, y: object) -> int:
        """Sum."""
        return self.put(RealOp.ADD, x, y)

    def sub(self, x: object, y: object, clamp: bool = False) -> int:
        """Difference; with `clamp` not below zero."""
        return self.put(RealOp.ADD, x, y, negate=True, clamp=clamp)

    def pack(self, x: object, word: Word) -> None:
        """A number into a word of the record."""
        self.put(RealOp.PACK, x, to=(Target.WORD, word))

    def reciprocal_root(self, x: int) -> int:
        """Seed and two Newton steps."""
        y = self.put(RealOp.SEED, x)
        for _ in range(2):
            t = self.mul(x, self.mul(y, y))
            y = self.mul(y, self.sub(Constant.THREE, t), halve=True)
        return y

    def align(self, a: int, b: int, c: int, first: Word) -> None:
        """Integer coefficients into the words from `first` on; a and b with their operands' exponents."""
        lowered = self.mul(c, Constant.LOWER)
        unit = self.put(RealOp.TOP, self.put(RealOp.TOP, a, b), lowered)
        self.put(RealOp.FIX_FACTOR, a, unit, to=(Target.LOW, first))
        self.put(RealOp.FIX_FACTOR, b, unit, to=(Target.HIGH, first))
        self.put(RealOp.FIX_TERM, c, unit, to=(Target.WORD, first + 1))
        self.put(RealOp.UNIT, unit, to=(Target.WORD, first + 2))

    def affine(self, gamma: int, beta: int, mean: int, root: int) -> None:
        """Forward coefficients."""
        a = self.mul(gamma, root)
        c = self.sub(beta, self.mul(mean, a))
        b = self.mul(Constant.B_FACTOR, Constant.B_SCALE)
        self.align(self.mul(a, Constant.A_SCALE), b, c, Word.FORWARD_AB)

    def instructions(self) -> list[Instruction]:
        """The program, registers placed."""
        last_use: dict[int, int] = {}
        for line, (_, x, y, _, _) in enumerate(self._lines):
            for operand in (x, y):
                if _is_name(operand):
                    last_use[operand] = line
        free, place = list(range(REGISTERS)), {}
        result = []
        for line, (op, x, y, to, flags) in enumerate(self._lines):
            source, x_place = _source(x, place)
            y_constant = isinstance(y, Constant)
            y_place = int(y) if y_constant else place[y]
            for operand in {o for o in (x, y) if _is_name(o)}:
                if last_use[operand] == line:
                    free.append(place[operand])
            if to is None:
                free.sort()
                place[line] = free.pop(0)
                to = (Target.REGISTER, place[line])
            result.append(Instruction(op, source, x_place, y_constant, y_place, to[0], int(to[1]), **flags))
        return result


def _is_name(operand: object) -> bool:
    return type(operand) is int


def _source(x: object, place: dict[int, int]) -> tuple[Source, int]:
    if isinstance(x, Word):
        return Source.RECORD, int(x)
    if isinstance(x, Constant):
        return Source.CONSTANT, int(x)
    if isinstance(x, Source):
        return x, 0
    return Source.REGISTER, place[x]


def constant() -> list[Instruction]:
    """Coefficients of a command, into the words of the forward direction."""
    p = Assembler()
    a = p.mul(Constant.A_FACTOR, Constant.A_SCALE)
    b = p.mul(Constant.B_FACTOR, Constant.B_SCALE)
    p.align(a, b, p.load(Constant.C_TERM), Word.FORWARD_AB)
    return p.instructions()


def forward() -> list[Instruction]:
    """REDUCE, forward."""
    p = Assembler()
    mean = p.mul(p.load(Source.PLAIN), Constant.INVERSE_COUNT)
    mean_square = p.mul(p.load(Source.PRODUCT), Constant.INVERSE_COUNT)
    variance = p.sub(mean_square, p.mul(mean, mean), clamp=True)
    root = p.reciprocal_root(p.add(variance, p.load(Constant.EPSILON)))
    for word, value in (
        (Word.RUNNING_MEAN, mean),
        (Word.RUNNING_VARIANCE, p.mul(variance, Constant.UNBIAS)),
    ):
        running = p.load(word)
        p.pack(p.add(running, p.mul(p.sub(value, running), Constant.MOMENTUM)), word)
    p.pack(mean, Word.MEAN)
    p.pack(root, Word.RSQRT)
    p.affine(p.load(Word.GAMMA), p.load(Word.BETA), mean, root)
    return p.instructions()


def inference() -> list[Instruction]:
    """COEFFICIENTS."""
    p = Assembler()
    mean, variance = p.load(Word.RUNNING_MEAN), p.load(Word.RUNNING_VARIANCE)
    root = p.reciprocal_root(p.add(variance, p.load(Constant.EPSILON)))
    p.pack(mean, Word.MEAN)
    p.pack(root, Word.RSQRT)
    p.affine(p.load(Word.GAMMA), p.load(Word.BETA), mean, root)
    return p.instructions()


def backward() -> list[Instruction]:
    """REDUCE, backward."""
    p = Assembler()
    mean, root = p.load(Word.MEAN), p.load(Word.RSQRT)
    d_beta = p.load(Source.PLAIN)
    d_gamma = p.mul(p.sub(p.load(Source.PRODUCT), p.mul(mean, d_beta)), root)
    gamma, beta = p.load(Word.GAMMA), p.load(Word.BETA)
    a = p.mul(gamma, root)
    spread = p.mul(a, Constant.INVERSE_COUNT)
    b = p.sub(Constant.ZERO, p.mul(spread, p.mul(root, d_gamma)))
    c = p.sub(p.sub(Constant.ZERO, p.mul(mean, b)), p.mul(spread, d_beta))
    p.align(p.mul(a, Constant.A_SCALE), p.mul(b, Constant.B_SCALE), c, Word.BACKWARD_AB)
    p.pack(p.sub(gamma, p.mul(d_gamma, Constant.RATE)), Word.GAMMA)
    p.pack(p.sub(beta, p.mul(d_beta, Constant.RATE)), Word.BETA)
    return p.instructions()


class Program(IntEnum):
    """Programs, in the order of `PROGRAMS`."""

    CONSTANT = 0
    FORWARD = 1
    BACKWARD = 2
    INFERENCE = 3


PROGRAMS = (constant(), forward(), backward(), inference())
