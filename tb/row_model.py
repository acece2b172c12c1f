"""A working set as one row sees it: what it is loaded with, and what it must issue in every cycle.

Written from docs/architecture.md, sections 2 to 4, word by word and bit by bit, with plain loops: independent of
the golden model's array formulas (`Job.golden_records` gives those, so that a bench can hold both against the RTL).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden import regenerate
from golden.csb import Geometry, Region
from golden.machine import Settings, Work
from golden.phases import as_matrices, backward, forward, gradient, read_weights, wanted, weight_update
from golden.trace import operations
from tb.box_jobs import STEPS, box_of, places, taps_of
from tb.record_model import held, offset_bits

MAC, DOT = 1, 2
Cycle = dict[str, int]


@dataclass(frozen=True)
class Word:
    """A mask word that a row walks: segment, record, tap, block of the tap, lane group (BW), slot of its unit."""

    segment: int
    record: int
    tap: int
    block: int
    group: int
    slot: int


@dataclass
class Job:
    """A working set.

    Attributes:
        regions: its segments, each `c_step` channels after the one before.
        owner: row and slot of every unit: block rows (FW, WU) or lane groups of all segments (BW; pairs if `wide`).
        boxes: the fields of the command that say which positions a tap visits (`tb.box_jobs`).
        c_end: of the command; in BW it leaves out the bias.
        others: as in the command and the settings.
    """

    cfg: Config
    phase: Phase
    regions: list[Region]
    owner: tuple[np.ndarray, np.ndarray]
    boxes: dict[str, int]
    c_end: int
    scale: int = 0
    salt: int = 0
    step: int = 0
    log2_period: int = 0
    dense: bool = False
    command: int = 0
    depthwise: bool = False
    wide: int = 0
    log2_cycles: int = 0
    sum_add: bool = False
    sum_store: bool = False
    deltas: list[dict[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Index the stored values by segment and position."""
        self.deltas = [dict(zip(r.stored.tolist(), r.delta.tolist(), strict=True)) for r in self.regions]

    @property
    def geometry(self) -> Geometry:
        """Of the first segment; the others have the same records and words."""
        return self.regions[0].geometry

    @property
    def positions(self) -> int:
        """Of the tile."""
        return self.boxes["positions"]

    @property
    def log2_positions(self) -> int:
        """Positions of a partial sum's place."""
        return self.boxes["log2_positions"]

    @property
    def stride(self) -> int:
        """Operands of a position in the gather bank."""
        return self.boxes["gather_stride"]

    @property
    def patch(self) -> int:
        """Positions of the patch that anything visits."""
        return 1 + max((g // self.stride for tap in range(self.taps) for g, _ in places(self.boxes, tap)), default=0)

    @property
    def taps(self) -> int:
        """Of the filter."""
        return taps_of(self.boxes)

    @property
    def log2_blocks(self) -> int:
        """Of a tap; more than any record has where there is a single tap."""
        return self.geometry.blocks.bit_length() - 1 if self.taps > 1 else 8

    @property
    def bias_tap(self) -> int:
        """The only tap of the last input channel, -1 if it is like the others (or not visited at all: BW)."""
        return -1 if self.phase == Phase.BW else self.regions[-1].geometry.bias_tap

    @property
    def lanes(self) -> int:
        """Channels of a unit (FW, BW)."""
        return self.cfg.lane_group << self.wide if self.phase == Phase.BW else self.cfg.block_k

    @property
    def channels(self) -> int:
        """Gathered channels, those of padded blocks included."""
        g = self.geometry
        by_k = self.phase == Phase.BW or self.depthwise
        return g.records * self.cfg.block_k if by_k else len(self.regions) * g.blocks * self.cfg.block_c

    @property
    def command_fields(self) -> dict[str, int]:
        """What the golden phases read from a command."""
        g, cfg = self.geometry, self.cfg
        return self.boxes | {
            "phase": int(self.phase),
            "log2_lanes": self.lanes.bit_length() - 1,
            "wide": self.wide,
            "log2_cycles": self.log2_cycles,
            "c_step": g.blocks * cfg.block_c,
            "c_end": self.c_end,
            "depthwise": int(self.depthwise),
            "sum_add": int(self.sum_add),
            "sum_store": int(self.sum_store),
        }

    def settings(self) -> Cycle:
        """Inputs of the controller that are constant while it computes."""
        g = self.geometry
        return {
            "phase": int(self.phase),
            "words": g.words,
            "mask_beats": g.mask_beats,
            "block_rows": g.records,
            "log2_blocks": self.log2_blocks,
            "taps": self.taps,
            **{name: self.boxes[name] for name in STEPS},
            "log2_positions": self.log2_positions,
            "k0": g.k0,
            "k_end": g.k_end,
            "c_end": self.c_end,
            "bias": int(self.bias_tap >= 0),
            "bias_tap": max(self.bias_tap, 0),
            "depthwise": int(self.depthwise),
            "wide": self.wide,
            "salt": self.salt,
            "scale_t": self.scale,
            "dense_mode": int(self.dense),
            "step": self.step & 63,
            "log2_period": self.log2_period,
            "command": self.command & 255,
        }

    # -- load side --------------------------------------------------------------------------
    def beats(self) -> list[tuple[int, Cycle]]:
        """(record, load bus) of every beat, in the order of memory; who owns it is not in it."""
        cfg, g, result = self.cfg, self.geometry, []
        room, exact = 2 * cfg.value_beats * cfg.values_per_beat, self.phase == Phase.WU
        for q, region in enumerate(self.regions):
            image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()[g.header_beats :]]
            at = 0
            for record, values in enumerate(region.value_beats().tolist()):
                before = 0  # values of the record in the beats before
                for beat in range(g.mask_beats + values):
                    is_value, offsets, words = beat >= g.mask_beats, 0, 0
                    for lane in range(cfg.masks_per_beat if not is_value else 0):
                        mask = image[at] >> lane * cfg.mask_bits & (1 << cfg.mask_bits) - 1
                        below = image[at] & (1 << lane * cfg.mask_bits) - 1
                        offsets |= below.bit_count() << lane * offset_bits(cfg)
                        words |= int(mask != 0) << lane
                    bus = {
                        "load_exact": int(exact),
                        "load_valid": 1,
                        "load_is_value": int(is_value),
                        "load_data": held(cfg, image[at], exact) if is_value else image[at],
                        "load_before": before % room,
                        "load_offsets": offsets,
                        "load_words": words,
                        "load_first": int(beat == 0 and self.phase != Phase.BW),
                        "load_channel": record * cfg.block_k if self.depthwise else q * g.blocks * cfg.block_c,
                        "load_kb": g.k0 // cfg.block_k + record,
                        "load_cb": region.geometry.c0 // cfg.block_c,
                    }
                    if self.phase != Phase.BW:
                        bus["load_slot"] = int(self.owner[1][record])
                    result.append((record, bus))
                    before += 0 if is_value else image[at].bit_count()
                    at += 1
        return result

    def entries(self) -> list[tuple[int, Cycle]]:
        """(unit, entry bus) of every unit; empty but in BW."""
        if self.phase != Phase.BW:
            return []
        cfg, g, result = self.cfg, self.geometry, []
        for unit, slot in enumerate(self.owner[1].tolist()):
            segment, group = divmod(unit << self.wide, g.groups)
            word, in_word = divmod(group, cfg.groups_per_word)
            bus = {
                "entry_valid": 1,
                "entry_slot": slot,
                "entry_word": word,
                "entry_group": in_word,
                "entry_record_base": segment * g.records * (g.mask_beats if cfg.sparse else cfg.dense_words(g.words)),
                "entry_cb": self.regions[segment].geometry.c0 // cfg.block_c + word,
            }
            result.append((unit, bus))
        return result

    def tap_writes(self, rng: np.random.Generator) -> list[Cycle]:
        """The tap bus, a tap an element."""
        return [box_of(self.cfg, rng, self.boxes, tap) for tap in range(self.taps)]

    # -- compute side -----------------------------------------------------------------------
    def words(self, row: int) -> list[Word]:
        """The list of a row, in order."""
        g, (rows, slots), result = self.geometry, self.owner, []
        if self.phase == Phase.BW:
            for unit in np.flatnonzero(rows == row).tolist():
                segment, group = divmod(unit << self.wide, g.groups)
                block, in_word = divmod(group, self.cfg.groups_per_word)
                walk = product(range(g.records), range(self.taps))
                result += [Word(segment, r, tap, block, in_word, int(slots[unit])) for r, tap in walk]
        else:
            for segment in range(len(self.regions)):
                for record in np.flatnonzero(rows == row).tolist():
                    places = [divmod(word, g.blocks) for word in self._walked(segment, record)]
                    result += [Word(segment, record, *place, 0, int(slots[record])) for place in places]
        return result

    def number(self, word: Word) -> int:
        """Of a word in its record."""
        return word.tap << self.log2_blocks | word.block

    @property
    def every(self) -> bool:
        """Whether words without stored weights are walked as well (FW, WU)."""
        return self.phase == Phase.WU or self.scale != 0 or not self.cfg.sparse

    def _walked(self, segment: int, record: int) -> list[int]:
        """Words of a record that are walked: those that hold a weight; of a beat without any, the first."""
        g, cfg, result = self.geometry, self.cfg, []
        if self.every:
            return list(range(g.words))
        for first in range(0, g.words, cfg.masks_per_beat):
            beat = range(first, min(first + cfg.masks_per_beat, g.words))
            holds = {p // cfg.mask_bits - record * g.words for p in self.deltas[segment]}
            result += [w for w in beat if w in holds] or [first]
        return result

    def cycles(self, row: int) -> list[Cycle]:
        """What the row shows from its first operation or scan on; names are those of the controller's ports."""
        result: list[Cycle] = []
        met = [places(self.boxes, tap) for tap in range(self.taps)]
        words, ahead = self.words(row), 0  # words that the row can look at while it is busy with one
        for number, word in enumerate(words):
            visits, last = self._visits(word), self._word_end(word) if self.phase == Phase.WU else {}
            if not visits or (not met[word.tap] and self.phase != Phase.WU):
                if ahead and number + 1 < len(words):
                    ahead -= 1
                else:
                    result.append({"is_scan": 1, **last})
                    ahead = 0
                continue
            if self.phase == Phase.BW and self.cfg.sparse:
                ahead = len(visits) * len(met[word.tap]) - 1
            for bit, delta in visits:
                visit = self._visit(bit, delta) if self.phase == Phase.WU else {}
                if not met[word.tap]:  # its tap meets padding alone
                    result.append({"is_scan": 1, "visit_void": 1, **visit})
                for n, place in enumerate(met[word.tap]):
                    ends = {"dot_first": int(n == 0), "dot_last": int(n == len(met[word.tap]) - 1)}
                    result.append(self._operation(word, bit, delta, place))
                    if self.phase == Phase.WU:
                        result[-1] |= ends | (visit if ends["dot_last"] else {})
            result[-1] |= last
        if self.phase != Phase.WU:
            for now, cycle in enumerate(result):
                if "op" in cycle:
                    near = [d for d in (1, 2, 3) if d <= now and result[now - d].get("psum_addr") == cycle["psum_addr"]]
                    cycle["bypass"] = min(near, default=0)
        return result

    def _place(self, word: Word, bit: int) -> tuple[int, int]:
        """Absolute channels (k, c) of a bit."""
        k, c = divmod(bit, self.cfg.block_c)
        g = self.regions[word.segment].geometry
        return g.k0 + word.record * self.cfg.block_k + k, g.c0 + word.block * self.cfg.block_c + c

    def _is_valid(self, word: Word, bit: int) -> bool:
        k, c = self._place(word, bit)
        elsewhere = 0 <= self.bias_tap != word.tap  # the bias exists in one tap
        return k < self.geometry.k_end and c < self.c_end - elsewhere

    def _is_explored(self, word: Word, step: int) -> bool:
        k, c = self._place(word, 0)
        at = k // self.cfg.block_k, c // self.cfg.block_c
        return not self.dense and bool(regenerate.explored(*at, word.tap, step, 1 << self.log2_period))

    def _visits(self, word: Word) -> list[tuple[int, int | None]]:
        """(bit, stored value or None) of every visited bit of a word."""
        everything = self._is_explored(word, self.step) if self.phase == Phase.WU else self.scale != 0
        first = (word.record * self.geometry.words + self.number(word)) * self.cfg.mask_bits
        visits = []
        for bit in range(self.cfg.mask_bits):
            delta = self.deltas[word.segment].get(first + bit)
            lane_group = bit % self.cfg.block_c // self.cfg.lane_group
            mine = self.phase != Phase.BW or lane_group >> self.wide == word.group >> self.wide
            if mine and self._is_valid(word, bit) and (everything or delta is not None):
                visits.append((bit, delta))
        return visits

    def _word_end(self, word: Word) -> Cycle:
        return {
            "visit_word_last": 1,
            "visit_record_last": int(self.number(word) == self.geometry.words - 1),
            "visit_next_explored": int(self._is_explored(word, self.step + 1)),
            "visit_next_count": sum(self._is_valid(word, bit) for bit in range(self.cfg.mask_bits)),
        }

    def _visit(self, bit: int, delta: int | None) -> Cycle:
        return {
            "visit_valid": 1,
            "visit_bit": bit,
            "visit_has_value": int(delta is not None),
            "visit_delta": delta or 0,
        }

    def _operation(self, word: Word, bit: int, delta: int | None, place: tuple[int, int]) -> Cycle:
        cfg, g = self.cfg, self.geometry
        k, c = divmod(bit, cfg.block_c)
        channel = word.record * cfg.block_k + k
        if self.phase != Phase.BW and not self.depthwise:
            channel = (word.segment * g.blocks + word.block) * cfg.block_c + c
        cycle = {"is_busy": 1, "gather_addr": place[0] + channel}
        if self.phase == Phase.WU:
            unit, half = divmod(word.slot * cfg.block_k + k, cfg.stationary_pack)
            return cycle | {"op": DOT, "half": half, "bypass": 0, "psum_addr": (unit << self.log2_positions) + place[1]}
        lane = c % self.lanes if self.phase == Phase.BW else k
        psum = (word.slot * self.lanes + lane << self.log2_positions) + place[1]
        weight = self._weight(*self._place(word, bit), word.tap, delta or 0)
        return cycle | {"op": MAC, "psum_addr": psum, "value": weight}

    def _weight(self, k: int, c: int, tap: int, delta: int) -> int:
        """`sat(sat(rhe(delta / 2**A)) + W0)`; `round` of a fraction rounds half to even."""
        bits = self.cfg.operand_bits
        initial = int(regenerate.initial(k, c, tap, self.salt, self.scale, bits)) if self.scale else 0
        top = 1 << bits - 1
        return min(max(min(round(Fraction(delta, 1 << bits)), top - 1) + initial, -top), top - 1)

    # -- golden -----------------------------------------------------------------------------
    def golden(
        self,
        x: np.ndarray | None = None,
        aux: np.ndarray | None = None,
        stored: np.ndarray | None = None,
        **update: int,
    ) -> tuple[Work, object, np.ndarray | None]:
        """The golden model's working set, its sums (FW, BW) or its `Updated` (WU), and all gradients (WU).

        Args:
            x: gathered operand, (positions of the patch, columns, channels); zero if left out.
            aux: stationary operand, (positions, columns, channels), likewise.
            stored: gradients of the tiles before, of the working set that adds them.
            update: `learning`, `shift` and `theta` of WU.
        """
        cfg, c = self.cfg, self.command_fields
        x = np.zeros((self.patch, cfg.columns, self.channels)) if x is None else x
        work = Work(c, regions=self.regions, slots=self.owner)
        if self.phase == Phase.WU:
            settings = Settings(learning=update.get("learning", 1), period_log2=self.log2_period, dense=self.dense)
            given = (self.step, settings, update.get("shift", 0), update.get("theta", 0))
            if aux is None:
                aux = np.zeros((self.positions, cfg.columns, self.geometry.records * cfg.block_k))
            region = self.regions[0]
            visited = wanted(cfg, region, self.step, settings)
            dots, work.walk = gradient(cfg, c, region, x, aux, visited, self.owner[0])
            if self.sum_add and stored is not None:
                dots = dots + stored
            return work, weight_update(cfg, c, region, visited, dots, *given), dots
        work.operand = [read_weights(r, self.scale, self.salt) for r in self.regions]
        matrices = [as_matrices(r, w) for r, w in zip(self.regions, work.operand, strict=True)]
        run = forward if self.phase == Phase.FW else backward
        sums, work.walk = run(cfg, c, self.regions, matrices, x, self.owner, self.scale != 0)
        return work, sums, None

    def golden_records(self, row: int) -> dict[int, int]:
        """Trace records of a row by cycle from its first operation or scan on."""
        rows, cycles, records = operations(self.cfg, self.golden()[0], self.command)
        mine = rows == row
        return dict(zip(cycles[mine].tolist(), records[mine].tolist(), strict=True))
