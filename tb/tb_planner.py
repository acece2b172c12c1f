"""Bench of the planner, balancer included: golden headers in, golden assignment out, every law to the cycle.

The bench plays the reader: it hands over the header beats in some cycles of the slot and then raises kind_done. All
that the planner writes is collected and compared in order; done, error, plan_ok and bank are compared in every cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import MAGIC, Phase, Policy
from arch.config import Config
from arch.status import Status
from golden.balancer import balance, balance_cycles, row_loads
from tb.command_rules import Command, good, headers_fit, verdict
from tb.pins import Pins, command_bits, compare, random_bits
from tb.record_model import random_region

VALIDATE, WALK = 6, 6
PLAN, KINDS, SATURATED = 1, 5, 0xFFFF
OUTPUTS = ("plan_ok", "total_we", "total_bank", "total_segment", "total_value", "offset_value", "bank", "assign_we",
           "assign_unit", "assign_row", "assign_slot", "max_load", "sum_load", "done", "error")  # fmt: skip
POLICIES = (Policy.NONE, Policy.PAIR, Policy.LPT)


@dataclass
class Plan:
    """A command and the headers that its regions have in memory: words, per segment."""

    command: Command
    headers: list[list[int]] = field(default_factory=list)


def record_beats(cfg: Config, c: Command, word: int) -> int:
    """Beats of the record that a header word describes."""
    return c["mask_beats"] + -(-(word & 0xFFFF) // cfg.values_per_beat)


def header(cfg: Config, c: Command, records: list[int], groups: list[int]) -> list[int]:
    """A header whose total is right."""
    return [sum(record_beats(cfg, c, word) for word in records), *records, *groups]


def counts(c: Command, headers: list[list[int]]) -> np.ndarray:
    """Counts that the units must have."""
    rows, first = c["block_rows"], 1 + c["record0"]
    if c["phase"] == Phase.BW:
        every = [word for h in headers for word in h[1 + rows :]]
        if c["wide"]:
            every = [min(a, SATURATED) + min(b, SATURATED) for a, b in zip(every[::2], every[1::2], strict=True)]
    else:
        high = 16 if c["phase"] == Phase.WU else 0
        every = [sum(h[first + i] >> high & 0xFFFF for h in headers) for i in range(c["records"])]
    return np.minimum(every[: c["units"]], SATURATED)


class Bench:
    """Slot after slot; the model of what the planner keeps is the number of its bank."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.bank = self.total_bank = self.slots = 0
        self.loads: dict[str, int] = {}  # of the last balanced plan

    def random_plan(self, phase: Phase, **changes: int) -> Plan:
        """Regions of the golden encoder, a range of their records, a policy."""
        cfg, rng = self.cfg, self.rng
        words = int(rng.integers(1, 4))
        records = int(rng.integers(1, 7))
        region = random_region(cfg, rng, records, words, 0.3)
        g = region.geometry
        segments = 1 if phase == Phase.WU else int(rng.integers(1, min(32, 64 // g.header_beats) + 1))
        if phase == Phase.BW:
            segments = max(1, min(segments, cfg.units // g.groups))
        record0 = 0 if phase == Phase.WU else int(rng.integers(0, records))
        part = records if phase == Phase.WU else int(rng.integers(1, records - record0 + 1))
        wide = int(phase == Phase.BW and cfg.groups_per_word > 1 and rng.random() < 0.5)
        most = segments * g.groups >> wide if phase == Phase.BW else part
        sums = cfg.psum_depth * (cfg.stationary_pack if phase == Phase.WU else 1)
        cap = sums >> (cfg.lane_group << wide if phase == Phase.BW else cfg.block_k).bit_length() - 1
        most = min(most, cfg.rows * (cap - cap % 2))  # pairing needs an even number of places
        units = most if rng.random() < 0.7 else int(rng.integers(0, most + 1))
        command = good(
            cfg,
            phase,
            load_x=0,
            policy=int(rng.choice(POLICIES)),
            words=words,
            mask_beats=g.mask_beats,
            segments=segments,
            header_beats=g.header_beats,
            block_rows=records,
            groups=g.groups,
            wide=wide,
            record0=record0,
            records=part,
            units=units,
            cap=cap,
        )
        headers = []
        for _ in range(segments):
            region = random_region(cfg, rng, records, words, float(rng.choice([0.0, 0.1, 0.5, 1.0])))
            region.cycles_next = rng.integers(0, 1 << 16, records)
            headers.append([int(word) for word in region.header()])
        return Plan(command | changes, headers)

    def beats(self, plan: Plan) -> list[int]:
        """The header beats in memory; what is behind a header in its last beat is noise."""
        c, wpb = plan.command, self.cfg.words_per_beat
        result = []
        for words in plan.headers:
            room = [int(w) for w in self.rng.integers(0, 1 << 32, c["header_beats"] * wpb)]
            room[: len(words)] = words
            for at in range(0, len(room), wpb):
                result.append(sum(word << 32 * i for i, word in enumerate(room[at : at + wpb])))
        return result

    async def idle(self, plan: Plan) -> None:
        """A slot in which the planner is not active, whatever is in its stage."""
        self.slots += 1
        await self.pins.cycle(slot_start=1, active=1)
        self.pins.drive(slot_start=0, active=0, command=command_bits(plan.command))
        for t in range(1, 12):
            got = await self.pins.cycle(kind_done=t >> 1 & 0x1F)
            still = {"done": 1, "error": 0, "total_we": 0, "assign_we": 0}
            compare((self.slots, t), got, still | (self.banks() if t > 1 else {}))

    def banks(self) -> dict[str, int]:
        """What both bank numbers must be."""
        return {"bank": self.bank, "total_bank": self.total_bank}

    async def play(self, plan: Plan, first: int = 3, gap: float = 0.0, reset_at: int = -1) -> Status:
        """A slot; header beats from cycle `first` on. Returns the status that was expected and seen."""
        cfg, rng, pins, c = self.cfg, self.rng, self.pins, plan.command
        self.slots += 1
        status, planned, keeps = verdict(cfg, c), bool(c["plan"]), bool(c["keep"])
        self.bank, self.total_bank = (self.bank + (planned and not keeps)) % 4, (self.total_bank + planned) % 4
        readable = int(c["magic"] == MAGIC and headers_fit(cfg, c))
        beats = self.beats(plan) if planned and readable else []
        every = [h[0] for h in plan.headers]
        sums = [[record_beats(cfg, c, w) for w in h[1 : 1 + c["block_rows"]]] for h in plan.headers]
        regions = [(sum(s[: c["record0"]]), sum(s[c["record0"] : c["record0"] + c["records"]])) for s in sums]
        walks = planned and status == Status.OK
        if walks and any(sum(s) != promised or promised > SATURATED for s, promised in zip(sums, every, strict=True)):
            status = Status.HEADER
        unit_counts = counts(c, plan.headers) if walks else np.zeros(0, int)
        row, slot = np.zeros(0, int), np.zeros(0, int)
        refused = False
        if walks and status == Status.OK and not keeps:
            try:
                row, slot = balance(unit_counts, cfg.rows, c["cap"], c["policy"])
            except ValueError:
                status, refused = Status.UNITS_OVERFLOW, True

        await pins.cycle(slot_start=1, active=int(rng.integers(2)), kind_done=0x1F, in_valid=0)
        pins.drive(slot_start=0, active=1, command=command_bits(c))
        totals, assigned = [], []
        end, t, number = None if walks else VALIDATE + 1, 1, 0
        while end is None or t < end + 3:
            send = number < len(beats) and t >= first and rng.random() >= gap
            over = t >= 3 and number == len(beats)
            if over and end is None:
                walked = 1 + c["block_rows"] + (c["groups"] if c["phase"] == Phase.BW else 0)
                words = c["segments"] * walked
                end = max(VALIDATE + 1, t) + words + WALK + 1
                if status != Status.HEADER and not keeps:
                    end += 2 if refused else balance_cycles(c["units"], cfg.rows, Policy(c["policy"]))
            noise = not send and rng.random() < 0.3  # beats of other kinds
            got = await pins.cycle(
                in_valid=int(send or noise),
                in_kind=PLAN if send else int(rng.choice([0, 2, 3, 4])),
                in_data=beats[number] if send else random_bits(rng, cfg.beat_bits),
                kind_done=0b11 if over else int(t >= 3),
            )
            number += send
            want = {"done": int(end is not None and t >= end)}
            if t >= 2:
                want |= {"plan_ok": readable, **self.banks()}
            want["error"] = status if want["done"] else 0 if t <= VALIDATE else None
            compare((self.slots, t), got, want)
            if got["total_we"]:
                totals.append((got["total_bank"], got["total_segment"], got["offset_value"], got["total_value"]))
            if got["assign_we"]:
                assigned.append((got["assign_unit"], got["assign_row"], got["assign_slot"]))
            if want["done"] and walks and status == Status.OK:
                if not keeps:
                    loads = row_loads(unit_counts, row, cfg.rows)
                    self.loads = {"max_load": int(loads.max()), "sum_load": int(loads.sum())}
                compare((self.slots, t), got, self.loads)
            if t == reset_at:
                await pins.cycle(rst=1, in_valid=0)
                got = await pins.cycle(rst=0)
                self.bank, self.total_bank, self.loads = 0, 0, {}
                compare("after reset", got, {"done": 1, "error": 0, "total_we": 0, "assign_we": 0, **self.banks()})
                pins.drive(active=0, kind_done=0)
                for _ in range(20):
                    got = await pins.cycle()
                    compare("after reset", got, {"total_we": 0, "assign_we": 0})
                return status
            t += 1
            assert t < 20000, "the plan does not end"
        if walks and status != Status.HEADER:
            expected = [(self.total_bank, g, *beats_of) for g, beats_of in enumerate(regions)]
            assert totals == expected, f"table of slot {self.slots}: {totals}, not {expected}"
        elif not walks:
            assert not totals
        want_assigned = sorted(zip(range(len(row)), row.tolist(), slot.tolist(), strict=True))
        assert sorted(assigned) == want_assigned, f"assignment of slot {self.slots}"
        return status


@cocotb.test()
async def random_plans(dut: Any) -> None:
    """All phases and policies, ranges of records, several segments; early and late headers."""
    await tb.start(dut)
    bench = Bench(dut)
    seen = []
    for trial in range(48):
        plan = bench.random_plan(Phase(trial % 4))
        seen.append(await bench.play(plan, (3, 4, 9)[trial % 3], (0.0, 0.0, 0.5)[trial // 3 % 3]))
        if trial % 6 == 0:
            await bench.idle(plan)
    assert seen.count(Status.OK) > 30


@cocotb.test()
async def kept_plans(dut: Any) -> None:
    """Totals in a bank of their own, nothing assigned; the assignment and the loads before it stay."""
    await tb.start(dut)
    bench = Bench(dut)
    for trial in range(24):
        phase = Phase(trial % 4)
        before = bench.random_plan(phase)
        assert await bench.play(before) == Status.OK
        for _ in range(int(bench.rng.integers(1, 6))):
            kept = bench.random_plan(phase, keep=1)
            assert await bench.play(kept, (3, 9)[trial % 2], (0.0, 0.5)[trial // 4 % 2]) == Status.OK
        kept.command["policy"] = 3
        assert await bench.play(kept) == Status.OK
        assert await bench.play(Plan(kept.command | {"plan": 0})) == Status.OK
        await bench.idle(kept)
        assert await bench.play(Plan(kept.command | {"units": 65535})) != Status.OK
        kept.headers[-1][0] += 1
        assert await bench.play(kept) == Status.HEADER
        await bench.play(bench.random_plan(phase))


@cocotb.test()
async def as_many_segments_as_there_are(dut: Any) -> None:
    """32 regions of one or two header beats each."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    for phase in (Phase.FW, Phase.BW, Phase.NOP):
        for beats in (1, 2):
            most = beats * cfg.words_per_beat - 1  # words of a header that are no total
            rows = max(most - 1, 1)
            if most < 2:
                continue
            c = good(cfg, phase, load_x=0, segments=32, header_beats=beats, block_rows=rows, records=rows, groups=1)
            lanes = cfg.lane_group if phase == Phase.BW else cfg.block_k
            c |= {"units": 1, "cap": cfg.psum_depth // lanes}
            heads = [header(cfg, c, [int(n) for n in bench.rng.integers(0, 900, rows)], [s]) for s in range(32)]
            for keep in (0, 1):
                assert await bench.play(Plan(c | {"keep": keep}, heads)) == Status.OK


@cocotb.test()
async def without_plan(dut: Any) -> None:
    """A command that is only checked, good or bad: the bank stays; a bad plan takes a bank and reads nothing."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in Phase:
        plan = bench.random_plan(phase)
        assert await bench.play(Plan(plan.command | {"plan": 0})) == Status.OK
        assert await bench.play(Plan(plan.command | {"plan": 0, "magic": 0})) == Status.MAGIC
        assert await bench.play(Plan(plan.command | {"records": 0, "units": 0})) == Status.FIELD
        assert await bench.play(plan) == Status.OK
        assert await bench.play(Plan(plan.command | {"units": 65535, "plan": 0})) == Status.UNITS_OVERFLOW
        await bench.idle(plan)


@cocotb.test()
async def contradictions(dut: Any) -> None:
    """Word 0 one too small, one too large, off by 2^16, in the first or the last region; the next plan is clean."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for phase in (Phase.FW, Phase.BW, Phase.WU, Phase.NOP):
        for change in (1, -1, 1 << 16, 1 << 31):
            for last in (False, True):
                plan = bench.random_plan(phase)
                where = plan.headers[-1 if last else 0]
                where[0] = (where[0] + change) % (1 << 32)
                assert await bench.play(plan, gap=0.3 * int(rng.integers(2))) == Status.HEADER
        assert await bench.play(bench.random_plan(phase)) == Status.OK


@cocotb.test()
async def totals_of_sixteen_bits(dut: Any) -> None:
    """Records that take 65535 beats in all, and one more."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    each = -(-0xFFFF // cfg.values_per_beat) + 255  # of a full record with as many mask beats as there can be
    full, rest = divmod(65535, each)
    while rest < 255:
        full, rest = full - 1, rest + each
    many = -(-rest // each)  # records that share the rest
    for extra, want in ((0, Status.OK), (1, Status.HEADER)):
        words = [0xFFFF] * full
        left, ones = rest + extra, []
        for i in range(many):
            take = min(each, left - 255 * (many - 1 - i))
            ones.append((take - 255) * cfg.values_per_beat)
            left -= take
        words += [min(n, 0xFFFF) for n in ones]
        c = good(cfg, Phase.FW, load_x=0, mask_beats=255, block_rows=len(words), records=1, units=1, groups=1)
        c["header_beats"] = -(-(2 + len(words)) // cfg.words_per_beat)
        head = header(cfg, c, words, [7])
        assert head[0] == 65535 + extra
        assert await bench.play(Plan(c, [head])) == want


@cocotb.test()
async def counts_saturate(dut: Any) -> None:
    """Sums over segments, and lane groups, of more than 65535."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    base = good(cfg, Phase.FW, load_x=0, policy=int(Policy.LPT), segments=3, block_rows=3, records=3, units=3, cap=3)
    base |= {"groups": 2, "header_beats": -(-6 // cfg.words_per_beat), "load_segments": 3}
    fw = [header(cfg, base, [30000, 20000 + s, 100], [0, 0]) for s in range(3)]
    assert counts(base, fw).tolist() == [SATURATED, 60003, 300]
    assert await bench.play(Plan(base, fw)) == Status.OK
    back = base | {"phase": int(Phase.BW), "units": 6, "log2_lanes": cfg.lane_group.bit_length() - 1}
    bw = [header(cfg, base, [1, 1, 1], [65535 + s, 1 << 31]) for s in range(3)]
    assert await bench.play(Plan(back, bw)) == Status.OK
    if cfg.groups_per_word > 1:
        pairs = back | {"units": 3, "wide": 1, "log2_lanes": back["log2_lanes"] + 1}
        for one, other in ((65535, 0), (65535, 1), (40000, 30000), (1, 2), (0, 1 << 31)):
            heads = [header(cfg, base, [1, 1, 1], [one, other + s]) for s in range(3)]
            assert counts(pairs, heads)[0] == min(one + other, SATURATED)
            assert await bench.play(Plan(pairs, heads)) == Status.OK


@cocotb.test()
async def degenerate_sizes(dut: Any) -> None:
    """No unit at all; one; as many as the balancer holds; as many header beats as the buffer holds."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    for policy in POLICIES:
        for units in (0, 1):
            plan = bench.random_plan(Phase.NOP, policy=int(policy))
            plan.command["units"] = units
            assert await bench.play(plan) == Status.OK
        many = min(cfg.units, 64 * cfg.words_per_beat - 2)
        c = good(cfg, Phase.NOP, load_x=0, load_w=0, policy=int(policy), block_rows=many, records=many, units=many)
        c |= {"groups": 1, "cap": cfg.units, "header_beats": 64}
        words = [int(n) for n in bench.rng.integers(0, 500, many)]
        assert await bench.play(Plan(c, [header(cfg, c, words, [1])])) == Status.OK


@cocotb.test()
async def more_lane_groups_than_units(dut: Any) -> None:
    """Counts of units that are left out must not reach those that are there, not even where numbers wrap."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    groups, cap = 2 * cfg.units // 3, cfg.psum_depth // cfg.lane_group
    c = good(cfg, Phase.BW, load_x=0, policy=int(Policy.LPT), block_rows=1, records=1, groups=groups, segments=2)
    c |= {"cap": cap, "header_beats": -(-(2 + groups) // cfg.words_per_beat), "units": min(cfg.units, cfg.rows * cap)}
    heads = [header(cfg, c, [1], [int(n) for n in bench.rng.integers(0, 1 << 10, groups)]) for _ in range(2)]
    assert 2 * groups > cfg.units
    assert await bench.play(Plan(c, heads)) == Status.OK


@cocotb.test()
async def balancer_refuses(dut: Any) -> None:
    """Pairing that needs a slot more than there are; an unknown policy: UNITS_OVERFLOW two cycles after the walk."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    units = cfg.rows + 1
    c = good(cfg, Phase.NOP, load_x=0, load_w=0, policy=int(Policy.PAIR), block_rows=units, records=units, units=units)
    c |= {"groups": 1, "header_beats": -(-(units + 2) // cfg.words_per_beat)}
    heads = [header(cfg, c, [5] * units, [1])]
    need = 2 * -(-units // (2 * cfg.rows))
    assert await bench.play(Plan(c | {"cap": need}, heads)) == Status.OK
    if (need - 1) * cfg.rows >= units:
        assert await bench.play(Plan(c | {"cap": need - 1}, heads)) == Status.UNITS_OVERFLOW
    assert await bench.play(Plan(c | {"cap": need, "policy": 3}, heads)) == Status.UNITS_OVERFLOW
    assert await bench.play(Plan(c | {"cap": need}, heads)) == Status.OK


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset while checking, reading, walking, balancing; what follows is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for at in (1, 4, 6, 8, 12, 15, 19, 24, 40, 100, 200):
        plan = bench.random_plan(Phase.FW, policy=int(Policy.LPT))
        await bench.play(plan, reset_at=at)
        assert await bench.play(bench.random_plan(Phase.BW)) == Status.OK
