"""A vector command on memory: reads, computes, writes, as the vector stage does.

Memory is an array of mantissas (beats, columns, bus elements); records, labels and commands lie in the
same bytes. Groups of channels are computed one after the other, as far as that can be seen: a command
may write over its own operand only in the places where it reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arch.config import Config
from arch.status import Status
from arch.vector import MAGIC, MAX_TERMS_LOG2, RECORD_WORDS, Clip, Op, record_beats
from golden.vector import coefficients as unit
from golden.vector.affine import Emitted, affine, emit, open_gate
from golden.vector.pool import Windows, pool, unpool
from golden.vector.real import Integers
from golden.vector.softmax import cross_entropy


@dataclass(frozen=True)
class Outcome:
    """What a vector command shows besides the memory it wrote.

    Attributes:
        status: OK, or why nothing was done.
        saturated: saturated elements.
        peak: least p with |values written, before rounding| < 2**p; None if all zero or nothing was written.
        loss: SOFTMAX: sum in bits, 20 fraction bits.
        right: SOFTMAX: right answers.
    """

    status: Status = Status.OK
    saturated: int = 0
    peak: int | None = None
    loss: int = 0
    right: int = 0


@dataclass
class VectorMemory:
    """Memory as a vector command sees it.

    Attributes:
        cfg: configuration.
        image: bytes, uint8 (beats, beat bytes); written in place.
    """

    cfg: Config
    image: NDArray[np.uint8]
    elements: NDArray[np.signedinteger] = field(init=False)
    words: NDArray[np.uint32] = field(init=False)

    def __post_init__(self) -> None:
        """Make the views."""
        kind = "<i2" if self.cfg.operand_bits == 16 else "i1"
        self.elements = self.image.view(kind).reshape(len(self.image), self.cfg.columns, self.cfg.bus_elements)
        self.words = self.image.view("<u4")

    def read(self, addresses: Integers) -> Integers:
        """Mantissas of beats: (..., J) addresses -> (..., columns, J * bus elements)."""
        beats = np.moveaxis(self.elements[addresses], -3, -2).astype(np.int64, order="C")
        return beats.reshape(*addresses.shape[:-1], self.cfg.columns, -1)

    def write(self, addresses: Integers, values: Integers) -> None:
        """The opposite of `read`."""
        shaped = values.reshape(*values.shape[:-1], addresses.shape[-1], self.cfg.bus_elements)
        self.elements[addresses] = np.moveaxis(shaped, -3, -2)

    def record_places(self, address: int, channels: int) -> Integers:
        """Beats of records: (channels, beats of a record)."""
        beats = record_beats(self.cfg.beat_bits)
        return address + np.arange(channels * beats).reshape(channels, beats)

    def read_records(self, address: int, channels: int) -> Integers:
        """Words of records, (channels, RECORD_WORDS)."""
        places = self.record_places(address, channels)
        return self.words[places].reshape(channels, -1)[:, :RECORD_WORDS].astype(np.int64)

    def write_records(self, address: int, records: Integers) -> None:
        """The opposite; what is behind a record in its last beat becomes zero."""
        places = self.record_places(address, len(records))
        words = np.zeros((len(records), places.shape[1] * self.words.shape[1]), np.uint32)
        words[:, :RECORD_WORDS] = records
        self.words[places] = words.reshape(*places.shape, -1)


def check(cfg: Config, command: dict[str, int]) -> Status:
    """Whether a command can be done."""
    c = command
    if c["magic"] != MAGIC:
        return Status.MAGIC
    sizes = [c["batches"], c["channels"], c["valid"]]
    pools = c["op"] in (Op.POOL, Op.UNPOOL)
    if pools:
        sizes += [c[name] for name in ("in_height", "in_width", "out_height", "out_width")]
        sizes += [c["window_height"], c["window_width"], c["step"]]
    elif c["op"] in (Op.AFFINE, Op.REDUCE):
        sizes.append(c["positions"])
    wrong = (
        c["op"] > Op.SOFTMAX
        or 0 in sizes
        or c["valid"] > cfg.columns
        or max(c["gate"], c["clip"]) > Clip.RELU6
        or c["step"] > 2
        or (c["op"] == Op.REDUCE and c["batches"] * c["positions"] * cfg.columns > 1 << MAX_TERMS_LOG2)
        or (c["op"] == Op.SOFTMAX and c["channels"] > 1024)
        or (pools and not _windows_meet(c))
    )
    return Status.FIELD if wrong else Status.OK


def _windows_meet(c: dict[str, int]) -> bool:
    """Whether every window has an element inside: the first, by less padding than window, and the last."""
    for size in ("height", "width"):
        last = (c[f"out_{size}"] - 1) * c["step"] - c["padding"]
        if last >= c[f"in_{size}"] or c[f"window_{size}"] <= c["padding"]:
            return False
    return True


def run(memory: VectorMemory, command: dict[str, int], exponents: Sequence[int], learning: int = 0) -> Outcome:
    """Do a command.

    Args:
        memory: read and written.
        command: fields of `arch.vector`.
        exponents: of all tensors.
        learning: register LEARNING.
    """
    status = check(memory.cfg, command)
    if status:
        return Outcome(status)
    op = command["op"]
    if op in (Op.REDUCE, Op.COEFFICIENTS):
        _records(memory, command, exponents, learning)
        return Outcome()
    if op == Op.SOFTMAX:
        return _softmax(memory, command, exponents)
    emitted = _affine(memory, command, exponents) if op == Op.AFFINE else _pool(memory, command, exponents)
    return Outcome(saturated=emitted.saturated, peak=emitted.peak)


def _addresses(cfg: Config, c: dict[str, int], name: str, positions: int) -> Integers:
    """Beats of an operand: (batches, positions, beats of a position)."""
    b, p, j = np.ogrid[: c["batches"], :positions, : -(-c["channels"] // cfg.bus_elements)]
    return np.asarray(c[f"{name}_addr"] + b * c[f"{name}_batch"] + p * c[f"{name}_stride"] + j, np.int64)


def _live(cfg: Config, c: dict[str, int]) -> NDArray[np.bool_]:
    """Where samples and channels are: (batches, 1, columns, channels in whole beats)."""
    channels = -(-c["channels"] // cfg.bus_elements) * cfg.bus_elements
    b, _, n, k = np.ogrid[: c["batches"], :1, : cfg.columns, :channels]
    return np.asarray(((b < c["batches"] - 1) | (n < c["valid"])) & (k < c["channels"] - c["ones"]))


def _write(memory: VectorMemory, c: dict[str, int], exponent: int, positions: int, values: Integers) -> None:
    """Write a result, with its constant-one channel."""
    if c["ones"]:
        values[..., c["channels"] - 1] = 1 << max(0, min(-exponent, memory.cfg.operand_bits - 2))
    memory.write(_addresses(memory.cfg, c, "out", positions), values)


def _spread(k: unit.Coefficients, channels: int) -> unit.Coefficients:
    """Coefficients for whole beats: the channels that are padding get any."""
    return unit.Coefficients(*(np.resize(x, channels) for x in (k.a, k.b, k.c, k.q)))


def _gated(memory: VectorMemory, c: dict[str, int], exponents: Sequence[int]) -> tuple[Integers, NDArray[np.bool_]]:
    """Operand a and the gate of it or of the result."""
    cfg = memory.cfg
    x = memory.read(_addresses(cfg, c, "a", c["positions"]))
    if not c["gate"]:
        return x, np.ones(x.shape, np.bool_)
    z = memory.read(_addresses(cfg, c, "gate", c["positions"]))
    return x, open_gate(z, c["gate"], exponents[c["gate_tensor"]], cfg.operand_bits)


def _affine(memory: VectorMemory, c: dict[str, int], exponents: Sequence[int]) -> Emitted:
    cfg = memory.cfg
    ea, eb, eo = (exponents[c[f"{name}_tensor"]] for name in ("a", "b", "out"))
    x, gate = _gated(memory, c, exponents)
    y = memory.read(_addresses(cfg, c, "b", c["positions"])) if c["has_b"] else None
    if c["records"]:
        records = memory.read_records(c["record_addr"], c["channels"])
        first = 9 if c["backward"] else 6
        k = unit.from_words(*(records[:, first + n] for n in range(3)))
    else:
        k = unit.constant(c, ea, eb)
    k = _spread(k, x.shape[-1])
    sums = affine(x if c["gate_result"] else np.where(gate, x, 0), y, k)
    sums = np.where(gate, sums, 0) if c["gate_result"] else sums
    emitted = emit(sums, k.q, eo, c["clip"], _live(cfg, c), cfg.operand_bits)
    _write(memory, c, eo, c["positions"], emitted.values)
    return emitted


def _records(memory: VectorMemory, c: dict[str, int], exponents: Sequence[int], learning: int) -> None:
    ea, eb = exponents[c["a_tensor"]], exponents[c["b_tensor"]]
    records = memory.read_records(c["record_addr"], c["channels"])
    if c["op"] == Op.COEFFICIENTS:
        new = unit.inference(records, c, ea, eb)
    else:
        x, gate = _gated(memory, c, exponents)
        x = np.where(gate & _live(memory.cfg, c), x, 0)
        other = memory.read(_addresses(memory.cfg, c, "b", c["positions"])) if c["backward"] else x
        plain, product = (sums.sum(axis=(0, 1, 2))[: c["channels"]] for sums in (x, x * other))
        if c["backward"]:
            new = unit.backward(records, plain, product, c, ea, eb, learning)
        else:
            new = unit.forward(records, plain, product, c, ea, eb)
    memory.write_records(c["record_addr"], new)


def _pool(memory: VectorMemory, c: dict[str, int], exponents: Sequence[int]) -> Emitted:
    cfg, w = memory.cfg, Windows.of(c)
    eb = exponents[c["b_tensor"]]
    k = unit.constant(c, eb if c["op"] == Op.UNPOOL else exponents[c["a_tensor"]], eb)
    factor = int(k.a[0])

    def tensor(name: str, height: int, width: int) -> Integers:
        read = memory.read(_addresses(cfg, c, name, height * width))
        return read.reshape(c["batches"], height, width, cfg.columns, -1)

    if c["op"] == Op.POOL:
        size = (w.out_height, w.out_width)
        sums = pool(tensor("a", w.in_height, w.in_width), w, factor, bool(c["average"]))
    else:
        size = (w.in_height, w.in_width)
        x = None if c["average"] else tensor("a", *size)
        sums = unpool(x, tensor("b", w.out_height, w.out_width), w, factor)
    positions = size[0] * size[1]
    sums = sums.reshape(c["batches"], positions, cfg.columns, -1)
    eo = exponents[c["out_tensor"]]
    emitted = emit(sums, np.resize(k.q, sums.shape[-1]), eo, c["clip"], _live(cfg, c), cfg.operand_bits)
    _write(memory, c, eo, positions, emitted.values)
    return emitted


def _softmax(memory: VectorMemory, c: dict[str, int], exponents: Sequence[int]) -> Outcome:
    cfg, classes = memory.cfg, c["channels"]
    places = _addresses(cfg, c, "a", 1)
    logits = memory.read(places)[:, 0]  # batches, columns, channels
    beats = c["b_addr"] + np.arange(c["batches"]) * c["b_batch"]
    labels = memory.image[beats].view("<u2")[:, : cfg.columns].astype(np.int64)
    live = _live(cfg, c)[:, 0, :, 0]
    found = cross_entropy(logits[live][:, :classes], exponents[c["a_tensor"]], labels[live], cfg.operand_bits)
    gradient = np.zeros_like(logits)
    gradient[live, :classes] = found.gradient
    memory.write(_addresses(cfg, c, "out", 1), gradient[:, None])
    return Outcome(loss=found.loss, right=found.right)
