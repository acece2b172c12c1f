"""Where the maps of a network lie: one tensor an operation, and the parts of a concatenation side by side in one.

What several operations write next to each other has one exponent, so a concatenation costs nothing: its parts are
written where they belong.
"""

from __future__ import annotations

from dataclasses import dataclass

from golden.memory import Memory, Tensor


@dataclass
class Map(Tensor):
    """A map of channels x height x width at every sub-batch, or some neighbouring channels of a wider one.

    Attributes:
        channels, height, width: of a sub-batch.
        number: of its exponent.
        images: sub-batches.
    """

    channels: int = 0
    height: int = 1
    width: int = 1
    number: int = 0
    images: int = 1

    @property
    def area(self) -> int:
        """Positions of a sub-batch."""
        return self.height * self.width

    def part(self, first: int, channels: int) -> Map:
        """Channels first .. first + channels - 1; `first` is a multiple of the bus elements."""
        address = self.address + first // self.memory.cfg.bus_elements
        shape = channels, self.height, self.width
        return Map(self.memory, address, self.positions, self.run, *shape, self.number, self.images)

    def operand(self, name: str) -> dict[str, int]:
        """Fields of a vector command that reads or writes it as operand `name`."""
        return {
            f"{name}_addr": self.address,
            f"{name}_batch": self.area * self.run,
            f"{name}_stride": self.run,
            f"{name}_tensor": self.number,
        }


class Maps:
    """Places maps and numbers their exponents: forward ones from 0 on, gradients from the middle on.

    Args:
        memory: where they are placed.
        images: sub-batches.

    Raises:
        ValueError: more maps than exponents (`Config.tensors`), when placing.
    """

    def __init__(self, memory: Memory, images: int) -> None:
        """Start empty."""
        self.memory, self.images = memory, images
        self.forward, self.backward = 0, memory.cfg.tensors // 2
        self.gradients: list[Map] = []

    def place(self, channels: int, height: int, width: int, extra: int = 0, gradient: bool = False) -> Map:
        """A new map, with room for `extra` more channels."""
        half = self.memory.cfg.tensors // 2
        number = self.backward if gradient else self.forward
        if number >= (2 * half if gradient else half):
            raise ValueError(
                f"the network has more than {half} {'gradients' if gradient else 'maps'}, half of the"
                f" {self.memory.cfg.tensors} tensors of the build"
            )
        if gradient:
            self.backward += 1
        else:
            self.forward += 1
        tensor = self.memory.tensor(self.images * height * width, channels + extra)
        shape = channels, height, width, number, self.images
        made = Map(self.memory, tensor.address, tensor.positions, tensor.run, *shape)
        if gradient:
            self.gradients.append(made)
        return made
