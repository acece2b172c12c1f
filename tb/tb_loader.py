"""Bench of the loader: what arrives goes where the command says, in the cycle that the law says.

The bench plays reader (beats with random pauses, never while the loader holds them back), assignment table and rows.
For every cycle of a slot it works out beforehand what each bus must show; a bus without a strobe must be silent.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import Phase
from arch.status import Status
from tb.command_rules import Command, good
from tb.pins import Pins, command_bits, compare, random_bits
from tb.record_model import Beat, held, parse, random_region, record_stream

FETCH, PLAN, X, AUX, W, KINDS = range(6)
LATENCY, GATE_LATENCY, ENTRIES, TAPS, SETTLE = 3, 1, 6, 4, 8
STROBES = ("hold", "col_we", "stat_we", "gate_we", "load_start", "load_valid", "entry_valid")
OUTPUTS = (*STROBES, "assign_unit", "bus_data", "col_addr", "stat_row", "stat_addr", "gate_bank",
           "gate_addr", "gate_data", "load_exact", "load_is_value", "load_before", "load_offsets",
           "load_words", "load_first", "load_row", "load_slot", "load_channel", "load_kb", "load_cb", "load_all",
           "entry_row", "entry_slot", "entry_word", "entry_group", "entry_record_base", "entry_cb", "done",
           "error")  # fmt: skip
MASK, VALUE = 1, 2


@dataclass
class Load:
    """A command with what its lists bring."""

    command: Command
    runs: dict[int, list[list[int]]] = field(default_factory=dict)  # X, AUX: beats of each run
    streams: list[list[Beat]] = field(default_factory=list)  # W: beats of each segment


class Bench:
    """Slots one after the other; the model keeps the gate bank and the assignment table."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        cfg = self.cfg
        self.widths = {name: len(getattr(dut, name)) for name in OUTPUTS}
        slots = min(cfg.units, cfg.psum_depth)
        self.table = [(int(self.rng.integers(cfg.rows)), int(self.rng.integers(slots))) for _ in range(cfg.units)]
        self.pieces = cfg.bus_elements // cfg.stationary_pack
        self.gate_bank = self.slots = 0

    def beat(self) -> int:
        """A beat of operands, some of them zero, or the most negative."""
        cfg, word = self.cfg, random_bits(self.rng, self.cfg.beat_bits)
        for element in range(cfg.columns * cfg.bus_elements):
            if self.rng.random() < 0.2:
                low = element * cfg.operand_bits
                word &= ~((1 << cfg.operand_bits) - 1 << low)
                word |= (int(self.rng.integers(2)) << cfg.operand_bits - 1) << low
        return word

    def random_load(self, phase: Phase, density: float = 0.3, **changes: int) -> Load:
        """Some of the three lists, any size."""
        cfg, rng = self.cfg, self.rng
        words, records = int(rng.integers(1, 2 * cfg.masks_per_beat + 2)), int(rng.integers(1, 5))
        segments = 1 if phase == Phase.WU else int(rng.integers(1, 4))
        segment = int(rng.integers(0, 32 - segments + 1))
        groups = words * cfg.groups_per_word
        wide = int(phase == Phase.BW and cfg.groups_per_word > 1 and rng.random() < 0.5)
        c = good(
            cfg,
            phase,
            load_x=int(rng.random() < 0.7),
            load_aux=int(rng.random() < 0.7),
            load_w=int(rng.random() < 0.8),
            x_run=int(rng.integers(1, 4)),
            x_runs=int(rng.integers(1, 4)),
            gather_stride=cfg.bus_elements * int(rng.integers(0, 5)),
            aux_run=int(rng.integers(1, 4)),
            aux_runs=int(rng.integers(1, 4)),
            out_channels=int(rng.integers(1, 3 * cfg.bus_elements + 1)),
            log2_positions=2,
            words=words,
            mask_beats=-(-words // cfg.masks_per_beat),
            groups=groups,
            segment=segment,
            load_segments=segments,
            c0=cfg.block_c * int(rng.integers(0, 40)),
            c_step=words * cfg.block_c,
            k0=cfg.block_k * int(rng.integers(0, 40)),
            record0=0 if phase == Phase.WU else int(rng.integers(0, 5)),
            records=records,
            units=segments * groups >> wide if phase == Phase.BW else records,
            wide=wide,
            kernel_rows=int(rng.integers(1, 8)),
            kernel_cols=int(rng.integers(1, 8)),
            ahead=int(rng.random() < 0.2),
            depthwise=int(phase in (Phase.FW, Phase.WU) and rng.random() < 0.3),
        )
        c["units"] = min(c["units"], cfg.units)
        c |= changes
        load = Load(c)
        for kind, name in ((X, "x"), (AUX, "aux")):
            load.runs[kind] = [[self.beat() for _ in range(c[f"{name}_run"])] for _ in range(c[f"{name}_runs"])]
        for _ in range(c["load_segments"]):
            load.streams.append(record_stream(random_region(cfg, rng, c["records"], c["words"], density)))
        return load

    # -- what the reader brings -------------------------------------------------------------------
    def timeline(self, load: Load, gap: float) -> tuple[dict[int, tuple[int, int, int, bool, int]], list[int]]:
        """By cycle: (kind, run, index, last, data); and the cycle from which each kind is done."""
        c, rng = load.command, self.rng
        lists: list[list[list[int]]] = [[[self.beat()] * int(rng.integers(0, 3))], [], [], [], []]
        lists[PLAN] = [[self.beat()] * int(rng.integers(0, 3)) for _ in range(2)]
        if c["load_x"]:
            lists[X] = load.runs[X]
        if c["load_aux"] and c["phase"] != Phase.NOP:
            lists[AUX] = load.runs[AUX]
        if c["load_w"]:
            lists[W] = [[bits for bits, _ in stream] for stream in load.streams]
        events, done, t, free = {}, [], 1, 0
        for kind, runs in enumerate(lists):
            for number, run in enumerate(runs):
                t += 1
                for index, data in enumerate(run):
                    t = max(t, free + (kind == W and not (number or index)))
                    while rng.random() < gap:
                        t += 1
                    events[t] = (kind, number, index, index == len(run) - 1, data)
                    t += 1
                    free = t - 1 + self.pieces if kind == AUX and c["phase"] == Phase.WU else 0
            t += not runs
            done.append(t)
        return events, done

    # -- what the loader must do ------------------------------------------------------------------
    def expected(
        self, load: Load, events: dict[int, tuple[int, int, int, bool, int]], done: list[int]
    ) -> tuple[dict, bool]:
        """By cycle: what the buses show; and whether the records contradict the command."""
        cfg, c, want = self.cfg, load.command, defaultdict(dict)
        phase = Phase(c["phase"])
        gate_beats, beats, times = 0, [], []
        element_mask = (1 << cfg.operand_bits) - 1
        for t, (kind, run, index, last, data) in events.items():
            if kind == X:
                addr = run * (c["gather_stride"] // cfg.bus_elements) + index
                want[t + LATENCY] |= {"col_we": 1, "col_addr": addr, "bus_data": data}
            elif kind == AUX and phase == Phase.WU:
                self._pieces(c, want, t, run, index, data, done[AUX])
            elif kind == AUX:
                elements = [data >> i * cfg.operand_bits & element_mask for i in range(cfg.columns * cfg.bus_elements)]
                bits = sum((0 < e <= element_mask >> 1) << i for i, e in enumerate(elements))
                want[t + GATE_LATENCY] |= {"gate_we": 1, "gate_addr": gate_beats, "gate_data": bits}
                gate_beats += 1
            elif kind == W:
                beats.append((data, last))
                times.append(t)
        seen = parse(cfg, beats, c["mask_beats"], c["records"])
        segment = 0
        for t, (data, last), s in zip(times, beats, seen, strict=True):
            if s.passed:
                exact = phase == Phase.WU
                want[t + LATENCY] |= {
                    "load_valid": 1,
                    "load_is_value": s.is_value,
                    "load_exact": exact,
                    "bus_data": held(cfg, data, exact or not s.is_value),
                    "load_all": phase == Phase.BW,
                }
                self._coordinates(c, want[t + LATENCY], s, segment)
            segment += last
        if c["load_w"]:
            want[1]["load_start"] = 1
            if phase == Phase.BW:
                self._entries(c, want)
        regions = sum(last for _, last in beats)
        return want, regions != c["load_segments"] or bool(seen and seen[-1].error)

    def _pieces(self, c: Command, want: dict, t: int, run: int, index: int, data: int, over: int) -> None:
        """The pieces of a stationary beat; `over`: cycle from which the reader is beyond all of them."""
        cfg, pack = self.cfg, self.cfg.stationary_pack
        width, mask = cfg.bus_elements * cfg.operand_bits, (1 << pack * cfg.operand_bits) - 1
        for p in range(self.pieces):
            if p:
                want[t + p]["hold"] = 1
        if t + self.pieces >= over:  # so that no beat of weights is on the bus together with the last piece
            want[t + self.pieces]["hold"] = 1
        for p in range(self.pieces):
            channel = index * cfg.bus_elements + p * pack
            if channel >= c["out_channels"]:
                continue
            row, slot = self.table[channel // cfg.block_k]
            word = (slot * cfg.block_k + channel % cfg.block_k) // pack
            low = [(n * cfg.bus_elements + p * pack) * cfg.operand_bits for n in range(cfg.columns)]
            want[t + LATENCY + 1 + p] |= {
                "stat_we": 1,
                "stat_row": row,
                "stat_addr": (word << c["log2_positions"]) + run,
                "bus_data": sum((data >> at & mask) << n * width for n, at in enumerate(low)),
            }

    def _coordinates(self, c: Command, want: dict[str, int], s: Any, segment: int) -> None:
        """Owner of a record, and where its first word lies."""
        cfg = self.cfg
        if not s.is_value:
            want |= {"load_before": s.before, "load_offsets": s.offsets, "load_words": s.words}
        if c["phase"] == Phase.BW:
            want["load_first"] = 0
            return
        want["load_row"], want["load_slot"] = self.table[s.record]
        want["load_first"] = s.first
        if s.first:
            want["load_channel"] = s.record * cfg.block_k if c["depthwise"] else segment * c["c_step"]
            want["load_kb"] = c["k0"] // cfg.block_k + c["record0"] + s.record
            want["load_cb"] = (c["c0"] + (c["segment"] + segment) * c["c_step"]) // cfg.block_c

    def _entries(self, c: Command, want: dict) -> None:
        """One unit a cycle."""
        cfg = self.cfg
        for unit in range(c["units"]):
            segment, group = divmod(unit << c["wide"], c["groups"])
            word, within = divmod(group, cfg.groups_per_word)
            row, slot = self.table[unit]
            want[ENTRIES + unit] |= {
                "entry_valid": 1,
                "entry_row": row,
                "entry_slot": slot,
                "entry_word": word,
                "entry_group": within,
                "entry_record_base": segment * c["records"] * c["mask_beats"],
                "entry_cb": (c["c0"] + (c["segment"] + segment) * c["c_step"]) // cfg.block_c + word,
            }

    # -- a slot -------------------------------------------------------------------------------------
    async def play(self, load: Load, gap: float = 0.0, active: bool = True, rows: dict[int, int] | None = None,
                   late: bool = False, reset_at: int = -1) -> Status:  # fmt: skip
        """One slot; `rows` report errors, if `late` in the last cycle in which they may, else from the start on."""
        cfg, rng, pins, c = self.cfg, self.rng, self.pins, load.command
        self.slots += 1
        back = c["phase"] == Phase.BW
        works = active and bool(c["load_x"] or c["load_aux"] or c["load_w"])
        events, done = self.timeline(load, gap) if active else ({}, [9] * 5)
        want, contradicts = self.expected(load, events, done) if active else (defaultdict(dict), False)
        entries = ENTRIES + c["units"] if back and c["load_w"] else 0
        computes = active and c["phase"] != Phase.NOP and not c["ahead"]
        taps = TAPS + c["kernel_rows"] * c["kernel_cols"] if computes else 1
        end = max(done[W], entries, taps) + SETTLE if works else taps
        flows = c["phase"] in (Phase.FW, Phase.BW)
        self.gate_bank = (self.gate_bank + (works and flows and c["load_aux"])) % 4
        status = Status.OK
        if works and c["load_w"]:
            found = set((rows or {}).values())
            status = Status.HEADER if contradicts else Status.OK
            status = Status.VALUE_OVERFLOW if VALUE in found else status
            status = Status.MASK_OVERFLOW if MASK in found else status
        errors = sum(code << 2 * row for row, code in (rows or {}).items())
        got = await pins.cycle(slot_start=1, in_valid=0, kind_done=0x1F, taps_over=int(rng.integers(2)))
        compare((self.slots, 0), got, {"done": 1})
        pins.drive(slot_start=0, active=int(active), command=command_bits(c))
        asked = 0
        for t in range(1, max(end, max(want, default=0)) + 3):
            noise = (int(rng.integers(KINDS)), int(rng.integers(4)), int(rng.integers(4)), bool(rng.integers(2)),
                     random_bits(rng, cfg.beat_bits))  # fmt: skip
            kind, run, index, last, data = events.get(t, noise)
            got = await pins.cycle(
                in_valid=int(t in events),
                in_kind=kind,
                in_run=run,
                in_index=index,
                in_last=int(last),
                in_data=data,
                kind_done=sum(1 << k for k in range(5) if t >= done[k]),
                assign_row=self.table[asked][0],
                assign_slot=self.table[asked][1],
                row_error=errors if not late or t >= end - 2 else 0,
                taps_over=int(t >= taps),
            )
            asked = got["assign_unit"]
            names = dict.fromkeys(STROBES, 0) | want.get(t, {}) | {"done": int(t >= end)}
            names["error"] = status if t >= end else 0 if t < end - 1 else None
            if t >= 2:
                names["gate_bank"] = self.gate_bank
            masked = {n: v if v is None else int(v) & (1 << self.widths[n]) - 1 for n, v in names.items()}
            compare((self.slots, t), got, masked)
            if t == reset_at:
                await pins.cycle(rst=1, in_valid=0)
                pins.drive(rst=0, active=0)
                for _ in range(12):
                    got = await pins.cycle()
                    compare("after reset", got, dict.fromkeys(STROBES, 0) | {"done": 1, "error": 0, "gate_bank": 0})
                self.gate_bank = 0
                break
        return status


@cocotb.test()
async def random_loads(dut: Any) -> None:
    """All phases, any of the lists, with and without pauses."""
    await tb.start(dut)
    bench = Bench(dut)
    for trial in range(80):
        load = bench.random_load(Phase(trial % 4), (0.05, 0.4, 1.0)[trial % 3])
        assert await bench.play(load, (0.0, 0.4)[trial // 4 % 2]) == Status.OK


@cocotb.test()
async def nothing_to_load(dut: Any) -> None:
    """Not active, or no list: done after the start, or when the taps are over; the next slot is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in Phase:
        load = bench.random_load(phase, load_x=0, load_aux=0, load_w=0)
        await bench.play(load)
        for ahead in (0, 1):
            await bench.play(bench.random_load(phase, load_x=0, load_aux=0, load_w=0, ahead=ahead))
        await bench.play(bench.random_load(phase, load_aux=1), active=False)
        await bench.play(bench.random_load(phase, load_x=1, load_aux=1, load_w=1))


@cocotb.test()
async def degenerate_loads(dut: Any) -> None:
    """One record of one word, empty; no unit; no segment; one beat of operands; one channel."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    small = {"words": 1, "mask_beats": 1, "records": 1, "units": 1, "load_segments": 1, "groups": cfg.groups_per_word}
    everything = {"load_x": 1, "load_aux": 1, "load_w": 1}
    for phase in Phase:
        for density in (0.0, 1.0):
            await bench.play(bench.random_load(phase, density, **small, **everything))
        await bench.play(bench.random_load(phase, **everything, load_segments=0, units=0))
        await bench.play(
            bench.random_load(phase, load_x=0, load_aux=1, load_w=0, aux_run=1, aux_runs=1, out_channels=1)
        )
        await bench.play(bench.random_load(phase, load_x=1, load_aux=0, load_w=0, x_run=1, x_runs=1, gather_stride=3))


@cocotb.test()
async def entries_last_longest(dut: Any) -> None:
    """As many lane groups as there may be: the load ends with the last entry, not with the last beat."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    words = min(4 * cfg.masks_per_beat, 64)
    groups = words * cfg.groups_per_word
    segments = max(1, min(3, cfg.units // groups))
    for units in (cfg.units, cfg.units - 1):
        load = bench.random_load(Phase.BW, 0.0, load_x=0, load_aux=0, load_w=1, words=words, groups=groups, records=1,
                                 wide=0, mask_beats=-(-words // cfg.masks_per_beat), load_segments=segments,
                                 units=min(units, segments * groups))  # fmt: skip
        await bench.play(load)


@cocotb.test()
async def taps_last_longest(dut: Any) -> None:
    """The largest filter: the load ends with its last tap, not with the last beat, unless nothing is computed."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in Phase:
        for ahead in (0, 1):
            for lists in ({"load_x": 1, "load_aux": 0, "load_w": 0}, {"load_x": 0, "load_aux": 0, "load_w": 1}):
                few = {"x_run": 1, "x_runs": 1, "words": 1, "mask_beats": 1, "records": 1, "units": 1,
                       "load_segments": 1, "groups": bench.cfg.groups_per_word}  # fmt: skip
                await bench.play(
                    bench.random_load(phase, **lists, **few, kernel_rows=7, kernel_cols=7, ahead=ahead), late=True
                )


@cocotb.test()
async def many_positions(dut: Any) -> None:
    """More than 256 positions of the stationary operand, and of the gathered one."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in Phase:
        await bench.play(bench.random_load(phase, load_x=1, load_aux=1, load_w=0, aux_run=1, aux_runs=300, x_run=1,
                                           x_runs=300, log2_positions=0, gather_stride=0))  # fmt: skip


@cocotb.test()
async def rows_overflow(dut: Any) -> None:
    """Errors of any row, early or at the last moment; masks before values; none without weights."""
    await tb.start(dut)
    bench = Bench(dut)
    last = bench.cfg.rows - 1
    for late in (False, True):
        for rows, want in (
            ({0: MASK}, Status.MASK_OVERFLOW),
            ({last: VALUE}, Status.VALUE_OVERFLOW),
            ({0: VALUE, last: MASK}, Status.MASK_OVERFLOW),
            ({1: VALUE, 0: VALUE}, Status.VALUE_OVERFLOW),
        ):
            for phase in Phase:
                load = bench.random_load(phase, load_w=1)
                assert await bench.play(load, rows=rows, late=late) == want
                load = bench.random_load(phase, load_w=0)
                assert await bench.play(load, rows=rows) == Status.OK
                assert await bench.play(bench.random_load(phase, load_w=1)) == Status.OK


@cocotb.test()
async def records_contradict(dut: Any) -> None:
    """A region too short, too long, missing: HEADER, after the errors of rows; the next slot is clean."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in (Phase.FW, Phase.BW, Phase.WU, Phase.NOP):
        for trouble in range(4):
            load = bench.random_load(phase, 0.4, load_w=1, records=3)
            stream = load.streams[-1]
            if trouble == 0:
                load.streams[-1] = [*stream[:-2], (stream[-2][0], True)]
            elif trouble == 1:
                load.streams[-1] = [*stream[:-1], (stream[-1][0], False), (0, True)]
            elif trouble == 2:
                load.streams[-1] = []
            else:
                load.command["records"] = 4
            assert await bench.play(load, 0.2 * (trouble % 2)) == Status.HEADER
            assert await bench.play(load, rows={0: VALUE}) == Status.VALUE_OVERFLOW
            assert await bench.play(bench.random_load(phase, load_w=1)) == Status.OK


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset while any list arrives: all buses fall silent, the next slot is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for at in (1, 3, 6, 9, 12, 16, 20):
        for phase in Phase:
            await bench.play(bench.random_load(phase, load_x=1, load_aux=1, load_w=1), reset_at=at)
            await bench.play(bench.random_load(phase))
