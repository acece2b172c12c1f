"""Random vector commands: memory, exponents and command, for benches and tests of the vector stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arch import vector as arch
from arch.config import Config
from arch.vector import Clip, Op, Word
from golden.vector.affine import ceiling
from golden.vector.real import word
from golden.vector.stage import VectorMemory, check

TENSORS = 16


@dataclass
class Job:
    """One command and what it finds.

    Attributes:
        command: all fields.
        image: memory, uint8 (beats, beat bytes).
        exponents: of all tensors.
        learning: register LEARNING.
    """

    command: dict[str, int]
    image: np.ndarray
    exponents: list[int]
    learning: int
    used: int = field(default=0, repr=False)


def sizes(rng: np.random.Generator, cfg: Config, op: Op) -> dict[str, int]:
    """Random sizes of an operation, small ones more often."""
    c = {"batches": int(rng.integers(1, 4)), "valid": int(rng.integers(1, cfg.columns + 1))}
    c["channels"] = int(rng.integers(1, 4 * cfg.bus_elements + 2))
    if op in (Op.POOL, Op.UNPOOL):
        c["in_height"], c["in_width"] = (int(v) for v in rng.integers(1, 8, 2))
        c["window_height"], c["window_width"] = (int(v) for v in rng.integers(1, 4, 2))
        c["step"], c["padding"] = int(rng.integers(1, 3)), int(rng.integers(0, 2))
        for size in ("height", "width"):
            room = c[f"in_{size}"] + 2 * c["padding"] - c[f"window_{size}"]
            c[f"out_{size}"] = max(1, room // c["step"] + 1) if room >= 0 else 1
            if rng.random() < 0.1:
                c[f"out_{size}"] = max(1, c[f"out_{size}"] - 1)  # positions without a window
    elif op in (Op.AFFINE, Op.REDUCE):
        c["positions"] = int(rng.integers(1, 8))
    return c


def random_job(rng: np.random.Generator, cfg: Config, op: Op, **given: int) -> Job:
    """A command that can be done (unless `given` makes it impossible) on a memory full of noise.

    Padding of tensors is noise as well: nothing may depend on it.
    """
    while True:
        c = {"op": int(op), "step": 1} | sizes(rng, cfg, op)
        c |= {"has_b": int(rng.integers(2)), "gate": int(rng.choice([0, 0, 1, 2])), "clip": int(rng.choice(list(Clip)))}
        c |= {"gate_result": int(rng.integers(2)), "average": int(rng.integers(2)), "backward": int(rng.integers(2))}
        c["records"] = int(rng.integers(2)) if op == Op.AFFINE else 0
        c |= given
        command = arch.unpack(arch.pack(**c))
        if given or not check(cfg, command):
            break
    beats = -(-c["channels"] // cfg.bus_elements)
    exponents = [int(e) for e in rng.integers(-(cfg.operand_bits - 2), 1, TENSORS)]
    if rng.random() < 0.2:
        exponents = [int(e) for e in rng.integers(-100, 28, TENSORS)]
    used = int(rng.integers(0, 4))
    inside, outside = (c.get(f"{n}_height", 1) * c.get(f"{n}_width", 1) for n in ("in", "out"))
    positions = {name: c.get("positions", 1) for name in ("a", "b", "gate", "out")}
    if op == Op.POOL:
        positions |= {"a": inside, "out": outside}
    if op == Op.UNPOOL:
        positions |= {"a": inside, "b": outside, "out": inside}
    for name, tensor in zip(("a", "b", "gate", "out"), rng.permutation(TENSORS)[:4], strict=True):
        stride = beats + int(rng.integers(0, 3))
        batch = positions[name] * stride + int(rng.integers(0, 3))
        if name in ("a", "gate") and op == Op.AFFINE and rng.random() < 0.1:
            stride = 0  # one position for all
        c |= {f"{name}_addr": used, f"{name}_stride": stride, f"{name}_batch": batch, f"{name}_tensor": int(tensor)}
        used += c["batches"] * batch + positions[name] * stride + beats
    c["record_addr"] = used
    used += c["channels"] * arch.record_beats(cfg.beat_bits) + 1
    terms = (c["batches"] - 1) * cfg.columns + c["valid"]
    terms *= c.get("positions", 1)
    c |= {"inverse_count": word(1 / terms), "unbias": word(terms / max(1, terms - 1))}
    c |= {"epsilon": word(1e-5), "momentum": word(0.1)}
    for name in ("a_factor", "b_factor", "c_term"):
        c[name] = word(
            float(rng.normal() * 2.0 ** rng.integers(-8, 8)) if rng.random() < 0.7 else float(rng.integers(0, 2))
        )
    c |= given
    memory = VectorMemory(cfg, np.frombuffer(rng.bytes(used * cfg.beat_bits // 8), np.uint8).reshape(used, -1).copy())
    memory.elements[:] >>= rng.integers(0, cfg.operand_bits, (used, 1, 1)).astype(memory.elements.dtype)
    if c["gate"] and rng.random() < 0.7:  # six and its neighbours
        six = ceiling(exponents[c["gate_tensor"]], cfg.operand_bits) + rng.integers(-1, 2, memory.elements.shape)
        six = np.clip(six, 0, (1 << cfg.operand_bits - 1) - 1)
        memory.elements[:] = np.where(rng.random(six.shape) < 0.1, six, memory.elements)
    if op == Op.REDUCE and rng.random() < 0.15:  # no variance at all: a rounding error may be negative
        memory.elements[:] = rng.integers(1, 1 << cfg.operand_bits - 1)
    if op == Op.SOFTMAX:
        labels = memory.image.view("<u2")[:, : cfg.columns]
        labels[:] = rng.integers(0, c["channels"] + (rng.random() < 0.2), labels.shape)
    if op != Op.SOFTMAX and rng.random() < 0.8:
        records = np.array(rng.integers(0, 1 << 32, (c["channels"], arch.RECORD_WORDS)))
        for w in (Word.GAMMA, Word.BETA, Word.RUNNING_MEAN, Word.MEAN):
            records[:, w] = [word(v) for v in rng.normal(size=c["channels"])]
        for w in (Word.RUNNING_VARIANCE, Word.RSQRT):
            records[:, w] = [word(v) for v in rng.uniform(0.1, 4, c["channels"])]
        for w in (Word.FORWARD_Q, Word.BACKWARD_Q):
            records[:, w] = exponents[c["out_tensor"]] - rng.integers(0, 32, c["channels"]) & 0xFFFF
        memory.write_records(c["record_addr"], records)
    learning = int(rng.integers(0, 256)) | (int(rng.integers(-30, 0)) & 0xFFFF) << 16
    return Job(arch.unpack(arch.pack(**c)), memory.image, exponents, learning, used)
