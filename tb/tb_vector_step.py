"""Bench of the vector stage on a network without convolutions: a step is nine commands on one memory.

    y → batch normalisation, ReLU → z → max pool → p → average → logits → loss, and all the way back to y

Nothing but y, labels, γ and β is written by the bench; exponents follow from peaks as the exponent table does it.
Going a little against the gradient must lower the loss.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from arch import vector as arch
from arch.command import Phase
from arch.vector import Clip, Op, Word
from golden.exponents import next_exponent
from golden.vector.real import word
from golden.vector.stage import VectorMemory, run
from tb.tb_vector_stage import Bench, begin
from tb.vector_work import Job

SIZE = 4
Y, Z, P, LOGITS, G_LOGITS, G_P, G_Z, G_Y = range(8)
AREAS = (16, 16, 4, 1, 1, 4, 16, 16)


class Network:
    """Tensors, records and commands."""

    def __init__(self, bench: Bench) -> None:
        cfg = self.cfg = bench.cfg
        self.bench, self.rng = bench, np.random.default_rng(7)
        self.channels = cfg.bus_elements + 1
        self.samples = cfg.columns + cfg.columns // 2
        self.places, at = [], 0
        for area in AREAS:
            self.places.append(at)
            at += 2 * area * 2
        self.labels, self.records = at, at + 2
        self.image = np.zeros((self.records + 9 * self.channels, cfg.beat_bits // 8), np.uint8)
        self.memory = VectorMemory(cfg, self.image)
        self.exponents = [-(cfg.operand_bits - 4)] * 8
        self.exponents[G_LOGITS] = -(cfg.operand_bits - 2)
        self.exponents[G_P] = self.exponents[G_Z] = self.exponents[G_Y] = -(cfg.operand_bits - 1)
        labels = self.image[self.labels : self.labels + 2].view("<u2")
        labels[:, : cfg.columns] = self.rng.integers(0, self.channels, (2, cfg.columns))
        words = np.zeros((self.channels, arch.RECORD_WORDS), np.int64)
        words[:, Word.GAMMA], words[:, Word.BETA] = word(1.5), word(0.25)
        self.memory.write_records(self.records, words)
        self.loss: list[int] = []

    def put_y(self, y: np.ndarray) -> None:
        """Write y, (batches, positions, columns, channels); padding is zero."""
        m = np.zeros((2, AREAS[Y], self.cfg.columns, 2 * self.cfg.bus_elements), np.int64)
        m[..., : self.channels] = np.rint(y / 2.0 ** self.exponents[Y])
        m[1, :, self.samples - self.cfg.columns :] = 0
        places = self.places[Y] + np.arange(2 * AREAS[Y] * 2).reshape(2, AREAS[Y], 2)
        self.memory.write(places, m)

    def get(self, tensor: int) -> np.ndarray:
        """A tensor as real numbers."""
        places = self.places[tensor] + np.arange(2 * AREAS[tensor] * 2).reshape(2, AREAS[tensor], 2)
        return self.memory.read(places)[..., : self.channels] * 2.0 ** self.exponents[tensor]

    def command(self, op: Op, a: int, out: int, b: int = 0, gate_tensor: int = 0, **more: int) -> dict[str, int]:
        """A command on whole tensors."""
        terms = self.samples * AREAS[Y]
        fields = {"op": op, "batches": 2, "valid": self.samples - self.cfg.columns, "channels": self.channels}
        fields |= {"record_addr": self.records, "positions": AREAS[out]}
        for name, tensor in (("a", a), ("b", b), ("gate", gate_tensor), ("out", out)):
            fields |= {f"{name}_addr": self.places[tensor], f"{name}_batch": 2 * AREAS[tensor]}
            fields |= {f"{name}_stride": 2, f"{name}_tensor": tensor}
        numbers = {"inverse_count": 1 / terms, "unbias": terms / (terms - 1), "epsilon": 1e-5, "momentum": 0.1}
        fields |= {name: word(value) for name, value in numbers.items()} | more
        return arch.unpack(arch.pack(**fields))

    def step(self) -> list[dict[str, int]]:
        """The commands of a step."""
        pool = {"in_height": 4, "in_width": 4, "out_height": 2, "out_width": 2, "window_height": 2, "window_width": 2}
        whole = {"in_height": 2, "in_width": 2, "out_height": 1, "out_width": 1, "window_height": 2, "window_width": 2}
        one, quarter = word(1.0), word(0.25)
        back = {"b": Y, "gate_tensor": Z, "gate": Clip.RELU, "backward": 1}
        return [
            self.command(Op.REDUCE, Y, Y),
            self.command(Op.AFFINE, Y, Z, records=1, clip=Clip.RELU),
            self.command(Op.POOL, Z, P, step=2, a_factor=one, **pool),
            self.command(Op.POOL, P, LOGITS, step=1, average=1, a_factor=quarter, **whole),
            self.command(Op.SOFTMAX, LOGITS, G_LOGITS, b_addr=self.labels, b_batch=1),
            self.command(Op.AFFINE, G_LOGITS, G_P, a_stride=0, a_factor=quarter, backward=1),
            self.command(Op.UNPOOL, Z, G_Z, b=G_P, step=2, a_factor=one, backward=1, **pool),
            self.command(Op.REDUCE, G_Z, G_Z, **back),
            self.command(Op.AFFINE, G_Z, G_Y, records=1, has_b=1, **back),
        ]

    async def do(self) -> None:
        """One step: every command on the RTL, then on this memory; the commit of exponents."""
        peaks = {}
        for c in self.step():
            await self.bench.play(Job(c, self.image.copy(), self.exponents, 0), latency=4)
            outcome = run(self.memory, c, self.exponents)
            if c["op"] == Op.SOFTMAX:
                self.loss.append(outcome.loss)
            if outcome.peak is not None:
                peaks[c["out_tensor"]] = (outcome.peak, Phase.BW if c["backward"] else Phase.FW)
        self.gradient = self.get(G_Y)
        for tensor, peak in peaks.items():
            self.exponents[tensor] = next_exponent(*peak, self.cfg.operand_bits)


@cocotb.test()
async def steps(dut: Any) -> None:
    """Three steps; y goes against its gradient, and the loss falls."""
    net = Network(await begin(dut))
    y = net.rng.normal(size=(2, AREAS[Y], net.cfg.columns, net.channels)) / 2
    for _ in range(3):
        net.put_y(y)
        await net.do()
        assert net.gradient.any()
        y = y - 0.25 / np.abs(net.gradient).max() * net.gradient
    assert net.loss[0] > net.loss[1] > net.loss[2], net.loss
