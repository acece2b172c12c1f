"""Softmax cross-entropy between the two programs of a step: logits in, integer gradient out.

Computed by the host. The format is defined: logits are read as mantissa * 2**exponent; the gradient
(probability minus one-hot) is rounded half to even to mantissas of exponent -(A-2), so that one is
representable; samples that pad the minibatch get gradient zero. The mean over the minibatch belongs
to the learning rate.
"""

from __future__ import annotations

import numpy as np


def gradient_exponent(operand_bits: int) -> int:
    """Exponent of the gradient tensor: -(A-2)."""
    return -(operand_bits - 2)


def softmax_gradient(
    logits: np.ndarray, exponent: int, labels: np.ndarray, operand_bits: int
) -> tuple[np.ndarray, float, int]:
    """Gradient of the cross-entropy with respect to the logits.

    Args:
        logits: mantissas, integer (samples, classes).
        exponent: of the logits.
        labels: class of every sample, (samples,).
        operand_bits: width A of the result.

    Returns:
        (mantissas int32 (samples, classes), mean loss in nats, correct predictions).
    """
    z = logits.astype(np.float64) * 2.0**exponent
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(np.maximum(p[rows, labels], 1e-30)).mean())
    right = int((p.argmax(axis=1) == labels).sum())
    p[rows, labels] -= 1
    return np.rint(p * 2.0 ** -gradient_exponent(operand_bits)).astype(np.int32), loss, right
