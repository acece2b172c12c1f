"""Model of what a stream of records means: which beats are masks, which are values, and when it contradicts itself.

Streams are made by the golden encoder; the model counts ones, beat by beat, so that it also says what becomes of a
stream that no encoder makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.config import Config
from golden.csb import Geometry, Region
from golden.requantise import requantise

Beat = tuple[int, bool]  # bits, last of its region


@dataclass(frozen=True)
class Seen:
    """A beat of a stream.

    Attributes:
        record: number in its region. is_value, first (mask beat of its record).
        before: values of the record before the beat. offsets: of a mask beat before each of its words, packed.
        words: of a mask beat those that hold a value, a bit each.
        passed: it belongs to a record that there should be; and no error came before it.
        records, regions, error: record number, regions over and error after it.
    """

    record: int
    is_value: bool
    first: bool
    before: int
    offsets: int
    words: int
    passed: bool
    records: int
    regions: int
    error: bool


def offset_bits(cfg: Config) -> int:
    """Width of a number of values of a beat, 0 to those of all words but the last."""
    return max(1, ((cfg.masks_per_beat - 1) * cfg.mask_bits).bit_length())


def held(cfg: Config, beat: int, exact: bool) -> int:
    """What rows are given of a value beat: itself, or every value rounded to a weight, twice beside itself."""
    if exact:
        return beat
    lanes = [beat >> lane * cfg.delta_bits & (1 << cfg.delta_bits) - 1 for lane in range(cfg.values_per_beat)]
    signed = np.array([lane - (lane >> cfg.delta_bits - 1 << cfg.delta_bits) for lane in lanes])
    weights = requantise(signed, cfg.operand_bits, cfg.operand_bits)[0].tolist()
    both = [(w & (1 << cfg.operand_bits) - 1) * (1 | 1 << cfg.operand_bits) for w in weights]
    return sum(value << lane * cfg.delta_bits for lane, value in enumerate(both))


def parse(cfg: Config, beats: list[Beat], mask_beats: int, records: int) -> list[Seen]:
    """What each beat is, if regions have `records` records of `mask_beats` mask beats each."""
    result: list[Seen] = []
    record = masks = values = ones = regions = 0  # mask beats of this record so far, value beats left, ones
    error = False
    width, room = offset_bits(cfg), 2 * cfg.value_beats * cfg.values_per_beat
    for bits, last in beats:
        if error:
            result.append(Seen(record, False, False, 0, 0, 0, False, record, regions, True))
            continue
        at, is_value, surplus, before = record, values > 0, record == records, ones % room
        offsets = words = 0
        first = not is_value and masks == 0
        if is_value:
            values -= 1
            ends = values == 0
        else:
            for word in range(cfg.masks_per_beat):
                offsets |= (bits & (1 << word * cfg.mask_bits) - 1).bit_count() << word * width
                words |= int(bits >> word * cfg.mask_bits & (1 << cfg.mask_bits) - 1 != 0) << word
            ones += bits.bit_count()
            masks += 1
            ends = False
            if masks == mask_beats:
                values, masks, ones = -(-ones // cfg.values_per_beat), 0, 0
                ends = values == 0
        record += ends
        error = surplus or (last and not (ends and record == records))
        if last:
            record, regions = 0, regions + 1
        result.append(Seen(at, is_value, first, before, offsets, words, not surplus, record, regions, error))
    return result


def random_region(
    cfg: Config, rng: np.random.Generator, records: int, words: int, density: float, k0: int = 0, c0: int = 0
) -> Region:
    """A region in which each position is stored with probability `density`."""
    g = Geometry(cfg, k0, k0 + records * cfg.block_k, c0, c0 + words * cfg.block_c, words)
    stored = np.flatnonzero(rng.random(g.positions) < density)
    top = 1 << cfg.delta_bits - 1
    return Region(g, stored, rng.integers(-top, top, len(stored)))


def record_stream(region: Region, record0: int = 0, records: int | None = None) -> list[Beat]:
    """Beats of `records` records of a region from `record0` on, the last one marked."""
    g = region.geometry
    records = g.records - record0 if records is None else records
    beats = g.mask_beats + region.value_beats()
    low = g.header_beats + int(beats[:record0].sum())
    high = low + int(beats[record0 : record0 + records].sum())
    image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()[low:high]]
    return [(bits, index == len(image) - 1) for index, bits in enumerate(image)]
