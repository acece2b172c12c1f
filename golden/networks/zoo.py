"""Networks by name: those for MNIST that the accelerator trains, and the five of the DropBack and Procrustes papers.

Where the papers' experiments fed CIFAR-10, their analytical model has 28x28 maps (images cropped to 28); so do these.
Dropout is left out everywhere: the description has no such operator.

Sources: LeNet-300-100 and LeNet-5, LeCun et al. 1998 (LeNet-5 in the sizes of Caffe's example); VGG, Simonyan and
Zisserman (arXiv 1409.1556); DenseNet, Huang et al. (1608.06993); wide residual networks, Zagoruyko and Komodakis
(1605.07146); ResNet, He et al. (1512.03385); MobileNetV2, Sandler et al. (1801.04381).
"""

from __future__ import annotations

from collections.abc import Callable

from golden.networks.builder import Builder
from golden.networks.graph import Graph

MNIST = (1, 28, 28)
CIFAR = (3, 28, 28)
IMAGENET = (3, 224, 224)


def lenet_300_100() -> Graph:
    """Three linear layers."""
    net = Builder("lenet-300-100", MNIST)
    net.flatten()
    for features in (300, 100):
        net.linear(features)
        net.relu()
    net.linear(10)
    return net.graph()


def lenet5() -> Graph:
    """Two convolutions, each pooled, and two linear layers. Rectified after the convolutions too, as is usual now."""
    net = Builder("lenet5", MNIST)
    for channels in (20, 50):
        net.conv(channels, 5)
        net.relu()
        net.max_pool(2)
    net.flatten()
    net.linear(500)
    net.relu()
    net.linear(10)
    return net.graph()


def vgg_small() -> Graph:
    """Six 3x3 convolutions with batch normalisation, in three stages."""
    net = Builder("vgg-small", MNIST)
    for channels in (16, 32, 64):
        for _ in range(2):
            _conv_bn(net, channels)
            net.relu()
        net.max_pool(2)
    net.flatten()
    net.linear(64)
    net.relu()
    net.linear(10)
    return net.graph()


def resnet_small() -> Graph:
    """Three residual blocks of 16, 32 and 64 channels; the latter two halve the map and have a 1x1 shortcut."""
    net = Builder("resnet-small", MNIST)
    _conv_bn(net, 16)
    net.relu()
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        _basic_block(net, channels, stride)
    net.global_avg_pool()
    net.linear(10)
    return net.graph()


def vgg_s() -> Graph:
    """13 convolutions and two linear layers, for CIFAR-10."""
    net = Builder("vgg-s", CIFAR)
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            _conv_bn(net, channels)
            net.relu()
        # 28, 14, 7, 4, 2, 1: an odd side is rounded up by a column of padding.
        net.max_pool(2, padding=net.shape().height % 2)
    net.linear(512)
    net.relu()
    net.linear(10)
    return net.graph()


def densenet() -> Graph:
    """Three dense blocks of ten 3x3 convolutions, growth 24, without compression at the transitions."""
    net = Builder("densenet", CIFAR)
    net.conv(16, 3, padding=1, bias=False)
    for block in range(3):
        for _ in range(10):
            so_far = net.last
            _bn_relu(net)
            net.concat(so_far, net.conv(24, 3, padding=1, bias=False))
        _bn_relu(net)
        if block < 2:
            net.conv(net.shape().channels, 1, bias=False)
            net.avg_pool(2)
    net.global_avg_pool()
    net.linear(10)
    return net.graph()


def wrn_28_10() -> Graph:
    """Wide residual network: 28 layers deep on the longest way, ten times as wide; three 1x1 shortcuts."""
    net = Builder("wrn-28-10", CIFAR)
    net.conv(16, 3, padding=1, bias=False)
    for channels, first in ((160, 1), (320, 2), (640, 2)):
        for block in range(4):
            stride = first if block == 0 else 1
            shortcut = net.last
            start = _bn_relu(net)
            net.conv(channels, 3, stride, 1, bias=False)
            _bn_relu(net)
            way = net.conv(channels, 3, padding=1, bias=False)
            if block == 0:
                shortcut = net.conv(channels, 1, stride, bias=False, x=start)
            net.add(way, shortcut)
    _bn_relu(net)
    net.global_avg_pool()
    net.linear(10)
    return net.graph()


def resnet18() -> Graph:
    """Eight residual blocks, for ImageNet. Three of them have a 1x1 shortcut, which papers do not count as layers."""
    net = Builder("resnet18", IMAGENET)
    _conv_bn(net, 64, 7, 2)
    net.relu()
    net.max_pool(3, 2, 1)
    for channels, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        _basic_block(net, channels, stride)
    net.global_avg_pool()
    net.linear(1000)
    return net.graph()


def mobilenetv2() -> Graph:
    """Seventeen inverted residuals with depthwise convolutions, for ImageNet."""
    net = Builder("mobilenetv2", IMAGENET)
    _conv_bn(net, 32, 3, 2)
    net.relu6()
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, channels, count, first in stages:
        for block in range(count):
            _inverted_residual(net, expansion, channels, first if block == 0 else 1)
    _conv_bn(net, 1280, 1)
    net.relu6()
    net.global_avg_pool()
    net.linear(1000)
    return net.graph()


def _conv_bn(net: Builder, channels: int, kernel: int = 3, stride: int = 1, x: str | None = None) -> str:
    """Convolution that keeps the map size (or divides it by the stride), normalised, so it needs no bias."""
    net.conv(channels, kernel, stride, kernel // 2, bias=False, x=x)
    return net.batch_norm()


def _bn_relu(net: Builder) -> str:
    net.batch_norm()
    return net.relu()


def _basic_block(net: Builder, channels: int, stride: int) -> str:
    start = net.last
    same = stride == 1 and net.shape().channels == channels
    _conv_bn(net, channels, 3, stride)
    net.relu()
    way = _conv_bn(net, channels)
    net.add(way, start if same else _conv_bn(net, channels, 1, stride, x=start))
    return net.relu()


def _inverted_residual(net: Builder, expansion: int, channels: int, stride: int) -> str:
    start, before = net.last, net.shape().channels
    if expansion > 1:
        _conv_bn(net, expansion * before, 1)
        net.relu6()
    net.depthwise(3, stride, 1, bias=False)
    net.batch_norm()
    net.relu6()
    way = _conv_bn(net, channels, 1)
    return net.add(way, start) if stride == 1 and before == channels else way


NETWORKS: dict[str, Callable[[], Graph]] = {
    "lenet-300-100": lenet_300_100,
    "lenet5": lenet5,
    "vgg-small": vgg_small,
    "resnet-small": resnet_small,
    "vgg-s": vgg_s,
    "densenet": densenet,
    "wrn-28-10": wrn_28_10,
    "resnet18": resnet18,
    "mobilenetv2": mobilenetv2,
}
"""What makes each network."""


def make(name: str) -> Graph:
    """A network by its name.

    Raises:
        ValueError: there is none; the message lists all.
    """
    if name not in NETWORKS:
        raise ValueError(f"the zoo has no network {name!r}; it has {', '.join(NETWORKS)}")
    return NETWORKS[name]()
