"""Vector commands: what stands between the convolutions, from the maps it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch.vector import MAGIC, Clip, Op
from golden.graph_maps import Map
from golden.networks.operators import AvgPool, GlobalAvgPool, Pool
from golden.vector.real import word
from golden.waits import Command

if TYPE_CHECKING:
    from golden.graph_layout import GraphLayout


@dataclass(frozen=True)
class Norm:
    """A batch normalisation.

    Attributes:
        address: first beat of the channels' records.
        eps, momentum: see `golden.networks.operators.BatchNorm`.
    """

    address: int
    eps: float
    momentum: float


def _command(network: GraphLayout, op: Op, channels: int, **fields: int) -> Command:
    valid = (network.batch - 1) % network.cfg.columns + 1
    return dict(magic=MAGIC, op=int(op), batches=network.positions, valid=valid, channels=channels) | fields


def affine(
    network: GraphLayout,
    a: Map,
    out: Map,
    b: Map | None = None,
    clip: Clip = Clip.NONE,
    ones: bool = False,
    norm: Norm | None = None,
    gate: Clip = Clip.NONE,
    z: Map | None = None,
    backward: bool = False,
) -> Command:
    """Out = a (+ b), or the normalisation of a; a where z is open, clipped."""
    one = word(1.0)
    c = _command(
        network,
        Op.AFFINE,
        a.channels + ones,
        positions=a.area,
        has_b=int(b is not None),
        records=int(norm is not None),
        record_addr=norm.address if norm else 0,
        backward=int(backward),
        clip=int(clip),
        ones=int(ones),
        a_factor=one,
        b_factor=one if b is not None else 0,
    )
    c |= a.operand("a") | out.operand("out")
    if b is not None:
        c |= b.operand("b")
    if gate != Clip.NONE:
        assert z is not None
        c |= z.operand("gate") | dict(gate=int(gate))
    return c


def reduce_(
    network: GraphLayout, norm: Norm, a: Map, y: Map | None = None, gate: Clip = Clip.NONE, z: Map | None = None
) -> Command:
    """Statistics of y = a, or with `y` the sums of its gradient a."""
    terms = network.batch * a.area
    c = _command(
        network,
        Op.REDUCE,
        a.channels,
        positions=a.area,
        backward=int(y is not None),
        record_addr=norm.address,
        inverse_count=word(1 / terms),
        unbias=word(terms / max(1, terms - 1)),
        epsilon=word(norm.eps),
        momentum=word(norm.momentum),
    )
    c |= a.operand("a")
    if y is not None:
        c |= y.operand("b")
    if gate != Clip.NONE:
        assert z is not None
        c |= z.operand("gate") | dict(gate=int(gate))
    return c


def _windows(node: Pool | GlobalAvgPool, x: Map, out: Map) -> Command:
    if isinstance(node, GlobalAvgPool):
        window, step, padding = (x.height, x.width), 1, 0
    else:
        window, step, padding = (node.window, node.window), node.stride, node.padding
    average = isinstance(node, GlobalAvgPool | AvgPool)
    return dict(
        in_height=x.height,
        in_width=x.width,
        out_height=out.height,
        out_width=out.width,
        window_height=window[0],
        window_width=window[1],
        step=step,
        padding=padding,
        average=int(average),
        a_factor=word(1 / (window[0] * window[1]) if average else 1.0),
    )


def pool(network: GraphLayout, node: Pool | GlobalAvgPool, x: Map, out: Map, clip: Clip, ones: bool) -> Command:
    """The largest element, or the mean, of each window."""
    c = _command(network, Op.POOL, x.channels + ones, clip=int(clip), ones=int(ones))
    return c | _windows(node, x, out) | x.operand("a") | out.operand("out")


def unpool(network: GraphLayout, node: Pool | GlobalAvgPool, x: Map, dz: Map, dx: Map) -> Command:
    """The gradient of a pool's input."""
    c = _command(network, Op.UNPOOL, x.channels, backward=1)
    return c | _windows(node, x, dz) | x.operand("a") | dz.operand("b") | dx.operand("out")


def softmax(network: GraphLayout, logits: Map, out: Map, labels: int) -> Command:
    """The gradient of the loss."""
    c = _command(network, Op.SOFTMAX, logits.channels, backward=1, b_addr=labels, b_batch=1)
    return c | logits.operand("a") | out.operand("out")
