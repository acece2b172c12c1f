"""Operators of a network in floating point: each forward, and backward by the chain rule.

A map is an array [channels, samples, height, width]: channels first, so that a convolution is one matrix product, and
sums over a channel run over neighbours in memory. An operator remembers from `forward` what its `backward` needs.

Sources: convolution as a product with the windows of its input, Chellapilla et al. (2006); batch normalisation, Ioffe
and Szegedy (arXiv 1502.03167). Which maximum of equals gets the gradient is the machine's choice (docs/vector.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from golden.networks.node import Shape

Array = NDArray[np.floating]
Index = tuple[slice, ...]


def cross_entropy(scores: Array, y: NDArray[np.integer]) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats, and its gradient.

    Args:
        scores: [samples, classes].
        y: class numbers, [samples].

    Returns:
        The mean over the samples, and its gradient with respect to the scores.
    """
    scores = scores - scores.max(1, keepdims=True)
    log_sum = np.log(np.exp(scores).sum(1, keepdims=True))
    rows = np.arange(len(y))
    loss = float((log_sum[:, 0] - scores[rows, y]).mean())
    d = np.exp(scores - log_sum)
    d[rows, y] -= 1
    d /= len(y)
    return loss, d


class Operator:
    """What stands at a node.

    `forward` takes the maps of the node's inputs and whether this is training, and returns the node's map. `backward`
    takes the gradient of that map and returns those of the inputs, in their order.
    """

    def forward(self, *x: Array, training: bool) -> Array:
        """The map of the node."""
        raise NotImplementedError

    def backward(self, dz: Array) -> Sequence[Array]:
        """Gradients of the inputs of the last `forward`."""
        raise NotImplementedError


class Sliding:
    """Windows that move over a map, tap by tap: all elements that meet one place of the window are a slice.

    Args:
        kernel: rows and columns of a window.
        stride, padding: of both directions.
        out: shape of the map of windows.
    """

    def __init__(self, kernel: tuple[int, int], stride: int, padding: int, out: Shape) -> None:
        """Only geometry."""
        self.kernel, self.stride, self.padding, self.size = kernel, stride, padding, (out.height, out.width)
        self.taps = math.prod(kernel)

    def slices(self) -> Iterator[tuple[int, Index]]:
        """Number of a tap, and where a padded map meets it, row by row."""
        rows, columns = (self.stride * (size - 1) + 1 for size in self.size)
        for tap in range(self.taps):
            r, s = divmod(tap, self.kernel[1])
            yield tap, (..., slice(r, r + rows, self.stride), slice(s, s + columns, self.stride))  # type: ignore[misc]

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """The map with its padding."""
        if not self.padding:
            return x
        full = np.full((*x.shape[:2], *(n + 2 * self.padding for n in x.shape[2:])), value, x.dtype)
        full[self._inside(full)] = x
        return full

    def collected(self, parts: Iterator[tuple[Index, Array]], like: Array) -> Array:
        """Sum of what the taps send to a map like `like`; what falls on padding is lost."""
        full = np.zeros((*like.shape[:2], *(n + 2 * self.padding for n in like.shape[2:])), like.dtype)
        for where, part in parts:
            full[where] += part
        return full[self._inside(full)]

    def _inside(self, full: Array) -> Index:
        p = self.padding
        return (slice(None), slice(None), slice(p, full.shape[2] - p), slice(p, full.shape[3] - p))


class Convolution(Operator):
    """`y[k, p, q] = bias[k] + sum w[k, c, r, s] * x[c, p * stride + r - pad, q * stride + s - pad]`.

    A linear layer is one of a single position and tap. Depthwise, output k reads input k alone.

    Args:
        w: weights [outputs, inputs * taps], with biases one column more; depthwise [outputs, taps].
        dw: where their gradient goes, likewise.
        windows: geometry.
        groups: input channels if depthwise, else 1.
        wanted: whether the gradient of the input is; if not, `backward` returns none.
    """

    def __init__(self, w: Array, dw: Array, windows: Sliding, groups: int = 1, wanted: bool = True) -> None:
        """Keep views of weights and gradient."""
        self.w, self.dw, self.windows, self.groups, self.wanted = w, dw, windows, groups, wanted

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """One product of the weights with the windows, a column a position."""
        (self.x,), windows, g = x, self.windows, self.groups
        channels, samples = self.x.shape[:2]
        columns = np.empty((channels, windows.taps, samples, *windows.size), self.x.dtype)
        full = windows.padded(self.x)
        for tap, where in windows.slices():
            columns[:, tap] = full[where]
        self.columns = columns.reshape(g, channels * windows.taps // g, -1)
        y = self._grouped() @ self.columns
        y = y.reshape(len(self.w), samples, *windows.size)
        if self._bias:
            y += self.w[:, -1, None, None, None]
        return y

    def backward(self, dz: Array) -> Sequence[Array]:
        """Gradient of the weights into `dw`, and that of the input."""
        windows, g = self.windows, self.groups
        dz = dz.reshape(g, len(self.w) // g, -1)
        self.dw[:, : self._inputs] = (dz @ self.columns.swapaxes(1, 2)).reshape(len(self.w), -1)
        if self._bias:
            self.dw[:, -1] = dz.sum(axis=2).ravel()
        if not self.wanted:
            return ()
        columns = self._grouped().swapaxes(1, 2) @ dz
        columns = columns.reshape(self.x.shape[0], windows.taps, self.x.shape[1], *windows.size)
        return (windows.collected(((where, columns[:, tap]) for tap, where in windows.slices()), self.x),)

    @property
    def _inputs(self) -> int:
        return self.columns.shape[1]

    @property
    def _bias(self) -> bool:
        return self.w.shape[1] > self._inputs

    def _grouped(self) -> Array:
        """Weights of each group, without biases."""
        return self.w[:, : self._inputs].reshape(self.groups, -1, self._inputs)


class BatchNormalisation(Operator):
    """Each channel less its mean, divided by its deviation, times a trained scale, plus a trained shift.

    In training, mean and variance are those of the minibatch, and move the running ones (of the variance, the unbiased
    estimate) by `momentum`; otherwise they are the running ones.

    Args:
        channels: of the map.
        eps: added to the variance.
        momentum: share of the newest minibatch in the running statistics.
        dtype: of scale, shift and statistics.
    """

    def __init__(self, channels: int, eps: float, momentum: float, dtype: type[np.floating]) -> None:
        """Scale and running variance one, shift and running mean zero."""
        self.eps, self.momentum = eps, momentum
        self.scale, self.running_variance = np.ones((2, channels), dtype)
        self.shift, self.running_mean, self.d_scale, self.d_shift = np.zeros((4, channels), dtype)

    def forward(self, *x: Array, training: bool) -> Array:
        """By the statistics of the minibatch, or in evaluation by the running ones."""
        flat = x[0].reshape(len(self.scale), -1)
        if not training:
            a = self.scale / np.sqrt(self.running_variance + self.eps)
            return (a[:, None] * flat + (self.shift - a * self.running_mean)[:, None]).reshape(x[0].shape)
        count = flat.shape[1]
        mean = flat.mean(axis=1)
        self.normal = flat - mean[:, None]
        variance = np.square(self.normal).mean(axis=1)
        self.root = 1 / np.sqrt(variance + self.eps)
        self.normal *= self.root[:, None]
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_variance += self.momentum * (variance * (count / max(1, count - 1)) - self.running_variance)
        return (self.scale[:, None] * self.normal + self.shift[:, None]).reshape(x[0].shape)

    def backward(self, dz: Array) -> Sequence[Array]:
        """Gradients of scale and shift into `d_scale` and `d_shift`, and that of the input, by training's forward."""
        flat = dz.reshape(self.normal.shape)
        self.d_shift[:], self.d_scale[:] = flat.sum(axis=1), (flat * self.normal).sum(axis=1)
        mean, slope = (d[:, None] / flat.shape[1] for d in (self.d_shift, self.d_scale))
        return (((self.scale * self.root)[:, None] * (flat - mean - self.normal * slope)).reshape(dz.shape),)


class Rectifier(Operator):
    """`max(x, 0)`, or with a ceiling `min(max(x, 0), ceiling)`; at the bends no gradient passes."""

    def __init__(self, ceiling: float = math.inf) -> None:
        """Infinite for a ReLU, six for a ReLU6."""
        self.ceiling = ceiling

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Clipped."""
        self.z: Array = np.maximum(x[0], 0)
        if self.ceiling < math.inf:
            np.minimum(self.z, self.ceiling, out=self.z)
        return self.z

    def backward(self, dz: Array) -> Sequence[Array]:
        """Where the result is neither zero nor the ceiling."""
        passes = self.z > 0
        if self.ceiling < math.inf:
            passes &= self.z < self.ceiling
        return (dz * passes,)


class MaxPooling(Operator):
    """Largest element of each window; the first one of equals, row by row, gets the gradient. Padding never wins."""

    def __init__(self, windows: Sliding) -> None:
        """Only geometry."""
        self.windows = windows

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Tap by tap the larger one."""
        (self.x,) = x
        full = self.windows.padded(self.x, -math.inf)
        best = np.full((*self.x.shape[:2], *self.windows.size), -math.inf, self.x.dtype)
        self.winner = np.zeros(best.shape, np.int8)
        for tap, where in self.windows.slices():
            larger = full[where] > best
            np.copyto(best, full[where], where=larger)
            np.copyto(self.winner, tap, where=larger, casting="unsafe")
        return best

    def backward(self, dz: Array) -> Sequence[Array]:
        """To the winner of each window."""
        slices = self.windows.slices()
        return (self.windows.collected(((where, dz * (self.winner == tap)) for tap, where in slices), self.x),)


class AveragePooling(Operator):
    """Mean of each window, of which padding is a part."""

    def __init__(self, windows: Sliding) -> None:
        """Only geometry."""
        self.windows = windows

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Sum of the taps, divided by their number."""
        (self.x,) = x
        full = self.windows.padded(self.x)
        total = np.zeros((*self.x.shape[:2], *self.windows.size), self.x.dtype)
        for _, where in self.windows.slices():
            total += full[where]
        return total / self.windows.taps

    def backward(self, dz: Array) -> Sequence[Array]:
        """To each the same."""
        share = dz / self.windows.taps
        return (self.windows.collected(((where, share) for _, where in self.windows.slices()), self.x),)


class Sum(Operator):
    """Sum of maps of one shape."""

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Added up in order."""
        self.count = len(x)
        return sum(x[1:], x[0])

    def backward(self, dz: Array) -> Sequence[Array]:
        """To each the whole gradient."""
        return (dz,) * self.count


class Concatenation(Operator):
    """Channels of all maps, one after the other."""

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Side by side."""
        self.ends = np.cumsum([len(part) for part in x])[:-1]
        return np.concatenate(x)

    def backward(self, dz: Array) -> Sequence[Array]:
        """To each its channels."""
        return np.split(dz, self.ends)


class Flattening(Operator):
    """A map as a vector: element (c, h, w) becomes channel `(c * height + h) * width + w`."""

    def forward(self, *x: Array, training: bool) -> Array:  # noqa: ARG002
        """Samples last, then all else in one."""
        self.shape = x[0].shape
        return x[0].transpose(0, 2, 3, 1).reshape(-1, self.shape[1], 1, 1)

    def backward(self, dz: Array) -> Sequence[Array]:
        """The opposite."""
        channels, samples, height, width = self.shape
        return (dz.reshape(channels, height, width, samples).transpose(0, 3, 1, 2),)
