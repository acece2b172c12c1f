"""Weight update of DropBack: move each accumulated update against its gradient, keep it if it is large.

An untracked weight has the accumulated update 0 and competes with its step alone; a tracked one
competes with everything it has accumulated. Adoption and eviction are one comparison with the
threshold theta, which the quantile estimator provides. (Golub et al., DropBack, arXiv 1806.06949;
threshold instead of a sort: Yang et al., Procrustes, MICRO 2020.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden.requantise import requantise


def update(
    delta: ArrayLike,
    g: ArrayLike,
    lr_mantissa: int,
    shift: int,
    theta: int,
    delta_bits: int,
    dense: bool,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """One update of every visited weight.

    `step = sat(rhe(g * lr_mantissa / 2**shift))`, `candidate = sat(delta - step)`, both saturated to
    `delta_bits`; kept where `|candidate| > theta`, in dense mode everywhere.

    Args:
        delta: accumulated updates, 0 where nothing is stored, any shape.
        g: exact gradients (`Config.acc_bits`), the shape of `delta`.
        lr_mantissa: learning rate, unsigned.
        shift: -31 to 63: exponent of delta minus those of g and of the learning rate.
        theta: threshold, unsigned `delta_bits`.
        delta_bits: width of a stored accumulated update.
        dense: keep every weight.

    Returns:
        `(new_delta, kept, saturated)`, of the shape of `delta`: the candidate where it is kept and 0
        elsewhere; whether it is kept; whether the step or the candidate had to be saturated.

    Raises:
        ValueError: lr_mantissa, shift or theta out of range; names value and bound.
    """
    if not 0 <= lr_mantissa < 1 << 16:
        raise ValueError(f"lr_mantissa must be between 0 and {(1 << 16) - 1}, not {lr_mantissa}")
    if not 0 <= theta < 1 << delta_bits:
        raise ValueError(f"theta must be between 0 and {(1 << delta_bits) - 1}, not {theta}")
    # |g| < 2**47 and 16 bits of learning rate: the product fits int64.
    step, step_saturated = requantise(np.asarray(g, dtype=np.int64) * np.int64(lr_mantissa), shift, delta_bits)
    exact = np.asarray(delta, dtype=np.int64) - step
    limit = np.int64(1) << np.int64(delta_bits - 1)
    candidate = np.minimum(np.maximum(exact, -limit), limit - 1)
    saturated = step_saturated | (candidate != exact)
    if dense:
        return candidate, np.full(candidate.shape, True), saturated
    kept = np.abs(candidate) > theta
    return np.where(kept, candidate, 0), kept, saturated
