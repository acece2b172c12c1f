"""Configuration of one accelerator: every width and size is a field of `Config`.

A `Config` is validated when it is made; everything derived from it is a property, so that no two
places can disagree about a width. `PRESETS` holds the named configurations of the README.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

PLAN_BEATS = 64
"""Header beats of one plan, all its regions together."""

MAX_SEGMENTS = 32
"""Regions of one plan."""


def log2_exact(value: int, name: str) -> int:
    """Base-two logarithm of a power of two.

    Raises:
        ValueError: `value` is not a positive power of two; the message names it.
    """
    if value < 1 or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, not {value}")
    return value.bit_length() - 1


@dataclass(frozen=True)
class Config:
    """Parameters of one build.

    Attributes:
        rows: PE rows; output- or input-channel units are shared out among them (2 to 64).
        columns: PE columns; each holds one sample of the minibatch (power of two, 2 to 64).
        operand_bits: width A of weights, activations and gradients in the multipliers (8 or 16).
        bus_elements: operands E a column receives per beat (power of two, 2 to 8).
        mask_bits: width of one mask word, block_k x block_c (16, 32 or 64).
        block_k: output channels of a block (Bk); the unit of balancing in FW and WU.
        lane_group: input channels of a lane group (LG); the unit of balancing in BW.
        gather_depth: operands in one of the two gather banks of a PE.
        psum_depth: partial sums in one of the two psum banks of a PE.
        mask_beats: mask beats in one of the two banks of a row's weight buffer.
        value_beats: value beats in one of the two banks of a row's weight buffer; of rounded values (FW, BW) it holds
            `rounded_beats`.
        units: units one working set may share out among the rows.
        gate_beats: beats in one bank of the ReLU gate buffer.
        gradients: gradients that a row stores between the tiles of one weight update.
        vector_elements: elements of every column that the vector stage takes in a cycle (power of two, 1 to E).
        vector_group: channels of which the vector stage holds the records (power of two, E to 1024).
        lr_bits: width of the learning-rate mantissa.
        tensors: entries of the exponent table.
        sum_bits: a partial sum is exact for fewer than 2**sum_bits products (8 to 17).
        maps: False leaves out what only convolutions and graphs use (boxes of taps, gradients that wait, the vector
            stage), for fully connected networks given as sizes; see `arch.command.CONNECTED`.
        copies: for FPGAs. True gives every row registers of its own for all that it is given, since the wires from the
            middle of the array to its rows take longer than what is done there; what rows answer the drain goes from
            row to row (`chain_rows`), so that it does not meet in the middle; and it says where memories lie:
            stationary operands in RAM blocks, of which there is one to spare for every PE, the balancer's lists in
            LUTs, which are near.
        sparse: False leaves out decoder, regeneration, balancer, quantile estimator (the baseline; it stores every
            position of every word, and a bank of the weight buffer must hold two words).
        trace: True adds the trace output.
    """

    rows: int = 16
    columns: int = 16
    operand_bits: int = 16
    bus_elements: int = 4
    mask_bits: int = 64
    block_k: int = 2
    lane_group: int = 4
    gather_depth: int = 1024
    psum_depth: int = 128
    mask_beats: int = 64
    value_beats: int = 64
    units: int = 512
    gate_beats: int = 512
    gradients: int = 2048
    vector_elements: int = 2
    vector_group: int = 32
    lr_bits: int = 8
    tensors: int = 32
    sum_bits: int = 17
    maps: bool = True
    copies: bool = False
    sparse: bool = True
    trace: bool = False

    def __post_init__(self) -> None:
        """Refuse a configuration that cannot be built, naming the value and the bound."""
        _within("rows", self.rows, 2, 64)
        _within("columns", self.columns, 2, 64)
        if self.operand_bits not in (8, 16):
            raise ValueError(f"operand_bits must be 8 or 16, not {self.operand_bits}")
        _within("bus_elements", self.bus_elements, 2, 8)
        if self.mask_bits not in (16, 32, 64):
            raise ValueError(f"mask_bits must be 16, 32 or 64, not {self.mask_bits}")
        for name in (
            "columns",
            "bus_elements",
            "block_k",
            "lane_group",
            "gather_depth",
            "psum_depth",
            "mask_beats",
            "value_beats",
            "units",
            "gate_beats",
            "gradients",
            "vector_elements",
            "vector_group",
        ):
            log2_exact(getattr(self, name), name)
        _within("block_k", self.block_k, 1, self.mask_bits)
        _within("lane_group", self.lane_group, 1, self.block_c)
        _within("gather_depth", self.gather_depth, 2 * self.bus_elements, 1 << 15)
        _within("psum_depth", self.psum_depth, 4, 1 << 12)
        _within("mask_beats", self.mask_beats, 4, 1 << 12)
        _within("value_beats", self.value_beats, 4, 1 << 12)
        _within("units", self.units, 2 * self.rows, 1 << 12)
        _within("gradients", self.gradients, self.mask_bits, 1 << 14)
        _within("vector_elements", self.vector_elements, 1, self.bus_elements)
        _within("vector_group", self.vector_group, self.bus_elements, 1024)
        _within("lr_bits", self.lr_bits, 4, 16)
        _within("tensors", self.tensors, 4, 256)
        _within("sum_bits", self.sum_bits, 8, 17)
        if self.beat_bits < max(64, self.mask_bits):
            raise ValueError(
                f"a beat has columns*operand_bits*bus_elements = {self.beat_bits} bits,"
                f" it must have at least {max(64, self.mask_bits)}"
            )
        values = self.value_beats * self.values_per_beat
        if not self.sparse and values < 2 * self.mask_bits:
            raise ValueError(
                f"a bank of {self.value_beats} value beats holds {values} values,"
                f" a dense build needs room for two words of {self.mask_bits}"
            )

    # -- widths -----------------------------------------------------------------------------
    @property
    def delta_bits(self) -> int:
        """Width of a stored accumulated update (twice the operand)."""
        return 2 * self.operand_bits

    @property
    def acc_bits(self) -> int:
        """Width of a partial sum: exact for fewer than 2**sum_bits products."""
        return 2 * self.operand_bits + self.sum_bits - 1

    @property
    def beat_bits(self) -> int:
        """Width of the external memory port and of the bus to the rows."""
        return self.columns * self.operand_bits * self.bus_elements

    # -- counts per beat --------------------------------------------------------------------
    @property
    def masks_per_beat(self) -> int:
        """Mask words in a beat."""
        return self.beat_bits // self.mask_bits

    @property
    def values_per_beat(self) -> int:
        """Accumulated updates in a beat."""
        return self.beat_bits // self.delta_bits

    @property
    def rounded_beats(self) -> int:
        """Value beats of which a bank of the weight buffer holds the values rounded to weights, half as wide."""
        return 2 * self.value_beats

    @property
    def words_per_beat(self) -> int:
        """32-bit words in a beat (commands and headers)."""
        return self.beat_bits // 32

    # -- blocks -----------------------------------------------------------------------------
    @property
    def block_c(self) -> int:
        """Input channels of a block (Bc)."""
        return self.mask_bits // self.block_k

    @property
    def groups_per_word(self) -> int:
        """Lane groups in a mask word."""
        return self.block_c // self.lane_group

    def dense_words(self, words: int) -> int:
        """Words that a record of `words` takes in a dense build: whole beats, without masks."""
        per_beat = max(1, self.values_per_beat // self.mask_bits)
        return -(-words // per_beat) * per_beat

    @property
    def stationary_pack(self) -> int:
        """Channels of the stationary operand that share one psum word (1 or 2)."""
        return min(2, self.block_k)

    @property
    def chain_rows(self) -> int:
        """Rows that the drain asks one behind the other: with `copies` every second row of the array, otherwise one."""
        return -(-self.rows // 2) if self.copies else 1

    def with_(self, **changes: object) -> Config:
        """A copy with some fields changed; validated like any other."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise ValueError(f"Config has no field {name!r}; it has {', '.join(sorted(known))}")
        return replace(self, **changes)  # type: ignore[arg-type]


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


PRESETS: dict[str, Config] = {
    "tiny": Config(
        rows=4,
        columns=4,
        bus_elements=2,
        mask_bits=16,
        block_k=2,
        lane_group=2,
        gather_depth=128,
        psum_depth=64,
        mask_beats=32,
        value_beats=64,
        units=64,
        gate_beats=128,
        gradients=256,
    ),
    "small": Config(
        rows=8,
        columns=8,
        bus_elements=4,
        mask_bits=64,
        block_k=2,
        lane_group=4,
        gather_depth=1024,
        psum_depth=128,
        mask_beats=64,
        value_beats=64,
        units=256,
        gate_beats=256,
        gradients=1024,
    ),
    "paper": Config(),
}


def cnn(rows: int = 16, columns: int = 16) -> Config:
    """The build for the convolutions of the papers' networks: larger buffers, at any size.

    With more than 16 rows the units of balancing are half as large: few layers have so many of them. Mask words are
    shorter than in the other presets: decoders are smaller, and where a weight is worth many cycles an empty word costs
    nothing that counts.

    Raises:
        ValueError: a size that cannot be built; names value and bound.
    """
    return Config(
        rows=rows,
        columns=columns,
        block_k=1 if rows > 16 else 2,
        lane_group=2,
        mask_bits=32,
        tensors=256,
        value_beats=256,
        mask_beats=128,
        gather_depth=2048,
        psum_depth=256,
        gradients=4096,
        vector_elements=4,
    )


PRESETS["cnn"] = cnn()
PRESETS["fpga"] = Config(
    rows=8,
    columns=8,
    operand_bits=8,
    bus_elements=2,
    mask_bits=16,
    block_k=2,
    lane_group=8,
    gather_depth=128,
    psum_depth=16,
    mask_beats=8,
    value_beats=256,
    units=64,
    gate_beats=128,
    gradients=16,
    vector_elements=1,
    vector_group=2,
    sum_bits=10,
    maps=False,
    copies=True,
)
"""For an LFE5U-85F: fully connected networks, minibatches of 8 or 16, 8-bit operands; partial sums and masks lie in
distributed RAM, so that a PE has one RAM block."""


def preset(name: str) -> Config:
    """Look a preset up by name, or make one from `RxC` (for example `16x16`), or from both: `fpga:4x8`.

    Raises:
        ValueError: neither a preset nor a size that can be built.
    """
    if name in PRESETS:
        return PRESETS[name]
    base, colon, size = name.rpartition(":")
    rows, x, columns = size.partition("x")
    if x and rows.isdecimal() and columns.isdecimal() and (base in PRESETS or not colon):
        r, c = int(rows), int(columns)
        if base:
            return PRESETS[base].with_(rows=r, columns=c)
        for known in PRESETS.values():
            if (known.rows, known.columns) == (r, c):
                return known
        like = PRESETS["tiny"] if c < 8 else PRESETS["small"] if c < 16 else PRESETS["paper"]
        return like.with_(rows=r, columns=c)
    names = ", ".join(PRESETS)
    raise ValueError(f"array {name!r} is neither ROWSxCOLUMNS nor one of {names}, alone or as NAME:ROWSxCOLUMNS")
