"""Weight regeneration: the initial weight of a position computed from its index, never stored.

`W0[k, c, tap]` is a hash of the position, brought to the layer's initial standard deviation by an
integer scale. The hash is two rounds of shifts, adds and exclusive-ors: every step of a round is
invertible modulo 2**32, so two positions of a layer never share a hash value. The sum of its four
bytes approximates a Gaussian (standard deviation 147.8, kurtosis 2.70). The scale of step t is the
scale of step 0 times a decay that is multiplied by lambda every step and, for any lambda below one,
falls by at least one unit a step: it reaches exactly zero, and from then on so does W0.

The same hash, one round of it, deals the mask words out to the steps of rotating exploration.

Sources: regeneration from xorshift streams and their sum, Golub et al., DropBack (arXiv 1806.06949)
and Yang et al., Procrustes (MICRO 2020); the shift amounts are those of Jenkins' integer hash
without its constants; decay to exactly zero and rotating exploration are this project's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

K_BITS = 13
C_BITS = 13
TAP_BITS = 6
SCALE_BITS = 16
SCALE_SHIFT = 11
DECAY_SHIFT = 16
DECAY_ONE = 1 << DECAY_SHIFT
NORMAL_LIMIT = 510
NORMAL_STD = (4 * (256**2 - 1) / 12) ** 0.5
EXPLORE_SALT = 0x5BD1E995
PERIOD_LIMIT = 64
_WORD = 0xFFFFFFFF


def mix(z: ArrayLike) -> NDArray[np.uint32]:
    """One round of the integer hash: a bijection of 32-bit words, elementwise.

    Args:
        z: integers in 0..2**32-1, any shape.

    Returns:
        uint32, the shape of `z`.
    """
    h: NDArray[np.uint32] = np.asarray(z).astype(np.uint32)
    with np.errstate(over="ignore"):  # numpy warns for scalars; the wrap is wanted
        h = h + (h << np.uint32(12))
        h = h ^ (h >> np.uint32(19))
        h = h + (h << np.uint32(5))
        h = h ^ (h << np.uint32(9))
        h = h + (h << np.uint32(3))
        h = h ^ (h >> np.uint32(16))
    return np.asarray(h, dtype=np.uint32)


def position(k: ArrayLike, c: ArrayLike, tap: ArrayLike) -> NDArray[np.uint32]:
    """The index of a position: `k << 19 | c << 6 | tap`; the arguments broadcast.

    Raises:
        ValueError: a coordinate outside 0..8191 (k, c) or 0..63 (tap).
    """
    word = np.zeros((), dtype=np.int64)
    for name, value, bits in (("k", k, K_BITS), ("c", c, C_BITS), ("tap", tap, TAP_BITS)):
        value = np.asarray(value, dtype=np.int64)
        if value.size and not (value.min() >= 0 and value.max() < 1 << bits):
            bad = value.min() if value.min() < 0 else value.max()
            raise ValueError(f"{name} must be between 0 and {(1 << bits) - 1}, not {bad}")
        word = (word << bits) | value
    return np.asarray(word, dtype=np.uint32)


def normal(k: ArrayLike, c: ArrayLike, tap: ArrayLike, salt: int) -> NDArray[np.int64]:
    """The approximately Gaussian integer of a position, in -510..510; the arguments broadcast.

    Args:
        k: output channel.
        c: input channel.
        tap: position in the filter.
        salt: 32-bit word of the layer, see `layer_salt`.

    Raises:
        ValueError: a coordinate or the salt outside its width.
    """
    z = mix(mix(position(k, c, tap) ^ np.uint32(_bounded("salt", salt, _WORD)))).astype(np.int64)
    return (z & 255) + (z >> 8 & 255) + (z >> 16 & 255) + (z >> 24) - NORMAL_LIMIT


def initial(k: ArrayLike, c: ArrayLike, tap: ArrayLike, salt: int, scale: int, operand_bits: int) -> NDArray[np.int64]:
    """Mantissa of the regenerated weight `lambda**t * W0[k, c, tap]`; the arguments broadcast.

    It is `normal * scale / 2**11`, rounded half to even and saturated to the operand. Its standard
    deviation is `scale * 0.0722` operand units: up to 4729 at the largest scale. At scale 2 and
    below every position rounds to zero.

    Args:
        k: output channel.
        c: input channel.
        tap: position in the filter.
        salt: 32-bit word of the layer.
        scale: the scale of this step, 0..65535, see `decayed`.
        operand_bits: width A of the result.

    Raises:
        ValueError: a coordinate, the salt or the scale outside its width.
    """
    return scaled(normal(k, c, tap, salt), scale, operand_bits)


def scaled(normals: NDArray[np.int64], scale: int, operand_bits: int) -> NDArray[np.int64]:
    """`normals * scale / 2**11`, rounded half to even and saturated: see `initial`."""
    product = normals * _bounded("scale", scale, (1 << SCALE_BITS) - 1)
    odd = product >> SCALE_SHIFT & 1
    rounded = (product + (1 << SCALE_SHIFT - 1) - 1 + odd) >> SCALE_SHIFT
    limit = 1 << operand_bits - 1
    return np.minimum(np.maximum(rounded, -limit), limit - 1)


def layer_salt(seed: int, layer: int) -> int:
    """Salt of a layer; chosen by the host, the hardware only carries it.

    The top bit is set: an index has it clear while a layer has at most 4096 output channels, so no
    hash starts from the few words close to zero, which two rounds mix least.

    Raises:
        ValueError: `seed` outside 32 bits or `layer` outside 0..65535.
    """
    word = _bounded("seed", seed, _WORD) ^ (_bounded("layer", layer, 0xFFFF) + 1) * 0x9E3779B1
    return int(mix(mix(word & _WORD))) | 1 << 31


def scale(std: float, weight_exponent: int) -> int:
    """Scale at step 0 for a wanted standard deviation of the initial weights.

    Args:
        std: of the real-valued weights; zero gives a layer that starts at zero (biases).
        weight_exponent: a mantissa m stands for `m * 2**weight_exponent`.

    Returns:
        The nearest integer, 0..65535.

    Raises:
        ValueError: `std` is negative or does not fit the scale at this exponent.
    """
    exact, bound = _exact_scale(std, weight_exponent), (1 << SCALE_BITS) - 1
    if not fits(std, weight_exponent):
        raise ValueError(
            f"std {std} at weight_exponent {weight_exponent} needs the scale {exact:.1f},"
            f" it must be between 0 and {bound}"
        )
    return round(exact)


def fits(std: float, weight_exponent: int) -> bool:
    """Whether `scale` takes this standard deviation at this exponent."""
    return 0 <= _exact_scale(std, weight_exponent) < (1 << SCALE_BITS) - 0.5


def _exact_scale(std: float, weight_exponent: int) -> float:
    return std / 2.0**weight_exponent / NORMAL_STD * 2**SCALE_SHIFT


def decay_factor(decay_per_step: float) -> int:
    """Mantissa of lambda, 17 bits: `round(lambda * 2**16)`, and 2**16 for lambda = 1 only.

    Raises:
        ValueError: lambda outside 0..1.
    """
    if not 0 <= decay_per_step <= 1:
        raise ValueError(f"lambda must be between 0 and 1, not {decay_per_step}")
    if decay_per_step == 1:
        return DECAY_ONE
    return min(round(decay_per_step * DECAY_ONE), DECAY_ONE - 1)


def next_decay(decay: int, factor: int) -> int:
    """The decay of the next step, `decay * factor >> 16`.

    A factor below 2**16 makes it smaller by at least one, so it reaches zero after a known number
    of steps (`steps_to_zero`); the factor 2**16 leaves it as it is.

    Raises:
        ValueError: either outside 0..65536.
    """
    return _bounded("decay", decay, DECAY_ONE) * _bounded("factor", factor, DECAY_ONE) >> DECAY_SHIFT


def decayed(scale_0: int, decay: int) -> int:
    """The scale of a step, `scale_0 * decay >> 16`; zero means that W0 has vanished.

    Raises:
        ValueError: `scale_0` outside 0..65535 or `decay` outside 0..65536.
    """
    start = _bounded("scale_0", scale_0, (1 << SCALE_BITS) - 1)
    return start * _bounded("decay", decay, DECAY_ONE) >> DECAY_SHIFT


def steps_to_zero(factor: int, scale_0: int = (1 << SCALE_BITS) - 1) -> int | None:
    """The first step whose scale is zero, or None if there is none (factor 2**16, scale not zero).

    Raises:
        ValueError: `factor` or `scale_0` outside its width.
    """
    decay, step = DECAY_ONE, 0
    while decayed(scale_0, decay):
        following = next_decay(decay, factor)
        if following == decay:
            return None
        decay, step = following, step + 1
    return step


def explored(kb: ArrayLike, cb: ArrayLike, tap: ArrayLike, step: int, period: int) -> NDArray[np.bool_]:
    """Whether a step of rotating exploration computes the gradients of a whole mask word.

    Every mask word is explored in exactly one step of any `period` successive ones, and the hash
    gives block rows and block columns fair shares of each step.

    Args:
        kb: row of the block.
        cb: column of the block.
        tap: position in the filter; the three broadcast.
        step: number of the step; only its residue modulo `period` counts.
        period: T, a power of two up to 64; 1 explores everything always.

    Raises:
        ValueError: a coordinate outside its width, or a bad period.
    """
    if not (isinstance(period, int) and 1 <= period <= PERIOD_LIMIT and period & (period - 1) == 0):
        raise ValueError(f"period must be a power of two between 1 and {PERIOD_LIMIT}, not {period}")
    return np.asarray((explore_word(kb, cb, tap) & np.uint32(period - 1)) == (step & (period - 1)))


def explore_word(kb: ArrayLike, cb: ArrayLike, tap: ArrayLike) -> NDArray[np.uint32]:
    """Hash whose residue modulo T is the step in which a mask word is explored; arguments as `explored`."""
    return mix(position(kb, cb, tap) ^ np.uint32(EXPLORE_SALT))


def _bounded(name: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise ValueError(f"{name} must be between 0 and {limit}, not {value}")
    return int(value)
