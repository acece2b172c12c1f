"""Bench of the record parser: every output of every cycle against a model that counts ones.

Regions come from the golden encoder, whole or a range of their records; malformed streams are made from them by
cutting, joining and dropping beats.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.config import Config
from tb.pins import Pins, compare, random_bits
from tb.record_model import Beat, Seen, held, parse, random_region, record_stream

LATENCY = 2
OUTPUTS = ("record", "valid", "is_value", "data", "first", "region_last", "before", "offsets", "words",
           "regions", "error")  # fmt: skip


class Bench:
    """Streams of beats, one after the other."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.dut = dut
        self.streams = 0

    async def play(self, beats: list[Beat], mask_beats: int, records: int, gap: float = 0.0, reset_at: int = -1) -> str:
        """One `start` and the beats after it; returns how it ended."""
        cfg, rng = self.cfg, self.rng
        self.streams += 1
        seen = parse(cfg, beats, mask_beats, records)
        # The parameters hold from the cycle after start on, and mean nothing before.
        await self.pins.cycle(
            start=1, in_valid=0, mask_beats=int(rng.integers(1, 256)), records=int(rng.integers(1, 1 << 16))
        )
        exact = bool(rng.integers(2))
        self.pins.drive(start=0, mask_beats=mask_beats, records=records, exact=int(exact))
        given: list[tuple[Beat, Seen] | None] = []
        number = cycle = 0
        now = Seen(0, False, False, 0, 0, 0, False, 0, 0, False)
        while number < len(beats) or cycle < len(given) + LATENCY:
            send = number < len(beats) and rng.random() >= gap
            noise = (random_bits(rng, cfg.beat_bits), bool(rng.integers(2)))
            bits, last = beats[number] if send else noise
            if number < len(beats):
                given.append((beats[number], seen[number]) if send else None)
            got = await self.pins.cycle(in_valid=int(send), in_last=int(last), in_data=bits)
            number += send
            leaving = given[cycle - LATENCY] if LATENCY <= cycle < len(given) + LATENCY else None
            now = leaving[1] if leaving else now
            want: dict[str, int | None] = {"valid": 0, "regions": now.regions, "error": now.error}
            if not now.error:
                want["record"] = now.records
            if leaving and leaving[1].passed:
                beat, s = leaving
                data = held(cfg, beat[0], exact or not s.is_value)
                want |= {"valid": 1, "is_value": s.is_value, "data": data, "region_last": beat[1], "first": s.first}
                of_masks = {"before": s.before, "offsets": s.offsets, "words": s.words}
                want |= dict.fromkeys(of_masks) if s.is_value else of_masks
            compare((self.streams, cycle), got, want)
            cycle += 1
            if cycle == reset_at:
                await self.pins.cycle(rst=1, in_valid=1)
                self.pins.drive(rst=0, in_valid=0)
                for after in range(LATENCY + 2):
                    got = await self.pins.cycle()
                    compare(f"{after} after reset", got, {"valid": 0, "record": 0, "regions": 0, "error": 0})
                return "reset"
        return "error" if now.error else "ok"


def many(cfg: Config, rng: np.random.Generator, shapes: list[tuple[int, float]], words: int) -> list[Beat]:
    """Regions one after the other: (records, density) each."""
    return [b for records, density in shapes for b in record_stream(random_region(cfg, rng, records, words, density))]


def mask_beats_of(cfg: Config, words: int) -> int:
    return -(-words // cfg.masks_per_beat)


@cocotb.test()
async def random_regions(dut: Any) -> None:
    """All densities, several regions, ragged mask beats, with and without gaps."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    for words in (1, cfg.masks_per_beat, cfg.masks_per_beat + 1, 2 * cfg.masks_per_beat + 1):
        for density in (0.02, 0.3, 0.9):
            for gap in (0.0, 0.4):
                records = int(rng.integers(1, 5))
                stream = many(cfg, rng, [(records, density)] * int(rng.integers(1, 5)), words)
                assert await bench.play(stream, mask_beats_of(cfg, words), records, gap) == "ok"


@cocotb.test()
async def corners(dut: Any) -> None:
    """One record of one word; nothing stored; everything stored; one value; exactly full value beats."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    for records, words, density in (
        (1, 1, 0.0),
        (1, 1, 1.0),
        (9, 1, 0.0),
        (3, cfg.masks_per_beat + 1, 0.0),
        (2, 3, 1.0),
    ):
        stream = many(cfg, rng, [(records, density)] * 3, words)
        assert await bench.play(stream, mask_beats_of(cfg, words), records) == "ok"
    full = (1 << cfg.values_per_beat) - 1
    for ones in (1, full >> 1, full, full << 1 | 1, 1 << cfg.mask_bits - 1):
        beats = -(-(ones & (1 << cfg.mask_bits) - 1).bit_count() // cfg.values_per_beat)
        stream = [(ones & (1 << cfg.mask_bits) - 1, False), *[(random_bits(rng, cfg.beat_bits), False)] * beats] * 2
        stream[-1] = (stream[-1][0], True)
        assert await bench.play(stream, 1, 2) == "ok"


@cocotb.test()
async def ranges_of_records(dut: Any) -> None:
    """Some records out of the middle of each region: numbered from zero."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    for record0, records in ((0, 1), (5, 1), (2, 3), (0, 6)):
        region = random_region(cfg, rng, 6, 3, 0.3)
        stream = record_stream(region, record0, records) + record_stream(region, record0, records)
        assert await bench.play(stream, region.geometry.mask_beats, records, 0.1) == "ok"


@cocotb.test()
async def longest_record(dut: Any) -> None:
    """255 mask beats, full: more values than a bank's addresses, their number wraps."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    stream = [((1 << cfg.beat_bits) - 1, False)] * 255
    stream += [(random_bits(rng, cfg.beat_bits), False)] * (255 * cfg.beat_bits // cfg.values_per_beat)
    stream[-1] = (stream[-1][0], True)
    assert await bench.play(stream + [(0, False)] * 254 + [(0, True)], 255, 1) == "ok"


@cocotb.test()
async def malformed(dut: Any) -> None:
    """Ends within masks, within values, a record early or late; goes on after the last; sticky until start."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    words = cfg.masks_per_beat + 1  # two mask beats
    for trial in range(4):
        whole = many(cfg, rng, [(3, 0.3)], words)
        seen = parse(cfg, whole, 2, 3)
        second = next(i for i, s in enumerate(seen) if s.record == 1)
        values = next(i for i, s in enumerate(seen) if s.record == 1 and s.is_value)
        follows = many(cfg, rng, [(3, 0.3)], words)
        gap = 0.3 * (trial % 2)

        def cut(beats: list[Beat]) -> list[Beat]:
            return [*beats[:-1], (beats[-1][0], True)]

        for beats, records in (
            (cut(whole[: second + 1]), 3),  # within the masks of record 1
            (cut(whole[: values + 1]), 3),  # within its values
            (cut(whole[:second]), 3),  # after record 0
            (whole, 2),  # a record too many
            (whole, 4),  # one too few
            ([(b, False) for b, _ in whole], 3),  # never ends, and goes on
            ([(b, False) for b, _ in whole[:second]], 1),
        ):
            assert await bench.play(beats + follows, 2, records, gap) == "error"
            assert await bench.play(whole, 2, 3, gap) == "ok"


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset within masks, within values and after an error: nothing comes out, the next stream is right."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    words = cfg.masks_per_beat + 1
    for at in (1, 2, 4, 5, 6, 9, 20):
        stream = many(cfg, rng, [(4, 0.5)], words)
        records = 4 if at < 20 else 1
        assert await bench.play(stream, 2, records, reset_at=at) == "reset"
        assert await bench.play(stream, 2, 4) == "ok"
