"""A network laid out for the predictor: addresses as on the machine, masks in place of weights, no values anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arch.config import Config
from golden import regenerate
from golden.csb import Geometry
from golden.graph_network import GraphNetwork
from golden.layout import Layer
from golden.memory import Memory
from golden.predict.counted import CountedRegion
from golden.predict.masks import LayerMask
from golden.waits import Command


class Addresses(Memory):
    """A memory of which only the addresses exist, as many as wanted."""

    def __init__(self, cfg: Config) -> None:
        """Start empty."""
        super().__init__(cfg, 0, keep_image=False)
        self.beats = 1 << 32

    def raw(self, words: np.ndarray) -> int:
        """Place 32-bit words and forget them."""
        return self._place(-(-words.size // self.cfg.words_per_beat))


@dataclass
class CountedNetwork(GraphNetwork):
    """A graph whose weights are masks.

    Attributes:
        masks: by the name of the layer's node; None for all weights.
        period: T of exploration.
        step: the step that is timed.
        counted: regions by layer, first output and first input channel.
    """

    masks: dict[str, LayerMask] | None = None
    period: int = 1
    step: int = 0
    counted: dict[tuple[int, int, int], CountedRegion] = field(default_factory=dict)
    _whole: dict[int, np.ndarray] = field(default_factory=dict)

    def _first(self, layer: Layer, g: Geometry) -> CountedRegion:  # type: ignore[override]
        key = (layer.index, g.k0, g.c0)
        if key not in self.counted:
            rows, columns = slice(g.k0, g.k_end), slice(g.c0, g.c_end)
            if self.masks is None:
                mask = np.ones((g.k_end - g.k0, g.c_end - g.c0, g.taps), bool)
            else:
                mask = self._mask(layer)[rows, columns]
            if g.bias_tap >= 0:
                mask = mask.copy()
                mask[:, -1, np.arange(g.taps) != g.bias_tap] = False
            if self.dense:
                explored = np.zeros(g.records * g.words, bool)
            else:
                explored = regenerate.explored(g.kb, g.cb, g.tap_of_word, self.step, self.period)
            region = CountedRegion(g, mask, 1 if layer.shape.depthwise else layer.inputs, explored)
            region.log2_cycles = 0 if layer.tiles else self.log2_u
            self.counted[key] = region
        return self.counted[key]

    def _mask(self, layer: Layer) -> np.ndarray:
        """Stored weights of a layer, bool (outputs, channels, taps), the bias the last channel."""
        assert self.masks is not None
        given, shape = self.masks[self.layer_names[layer.index]], layer.shape
        if layer.index not in self._whole:
            weights = given.weights.reshape(shape.outputs, shape.channels - shape.bias, shape.taps)
            bias = np.repeat(given.bias[:, None, None], shape.taps, 2) if shape.bias else weights[:, :0]
            self._whole[layer.index] = np.concatenate([weights, bias], 1) if shape.bias else weights
        return self._whole[layer.index]

    def steady_step(self) -> tuple[list[Command], list[Command]]:
        """A step's program between two others, and of the one before it the command that loads ahead for it."""
        before, program = (self.step_program(generation, False, True, True) for generation in (1, 0))
        return before[-1:], program

    @property
    def stores_by_address(self) -> dict[int, CountedRegion]:
        """Regions by where they begin, both generations."""
        return {
            store.address: store.region  # type: ignore[misc]
            for layer in self.layers
            for side in layer.stores
            for row in side
            for store in row
        }
