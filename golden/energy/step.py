"""A training step: its events by phase, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arch.config import Config
from golden import timing
from golden.energy import events, model
from golden.energy.events import Events
from golden.machine import Work
from golden.measure import PHASES

SHARED = ("cycle", "idle_central")
"""Events that come with time; they are booked on phases as cycles are."""


@dataclass(frozen=True)
class Step:
    """Events of a training step.

    Attributes:
        cfg: of the build.
        events: by phase (`golden.measure.PHASES`).
        cycles: by phase.
    """

    cfg: Config
    events: dict[str, Events]
    cycles: dict[str, float]

    @property
    def total(self) -> Events:
        """Of all phases."""
        return events.summed(self.events.values())

    def energy(self, u: model.Units) -> dict[str, dict[str, float]]:
        """Picojoules by phase and component."""
        return {phase: model.energy(self.cfg, found, u) for phase, found in self.events.items()}

    def picojoules(self, u: model.Units) -> float:
        """Of the whole step."""
        return sum(model.energy(self.cfg, self.total, u).values())


def of_programs(cfg: Config, programs: Sequence[list[Work]], latency: int, decay: int = 0) -> Step:
    """A step of so many programs.

    Args:
        cfg: configuration.
        programs: works of its programs; an empty one is none.
        latency: of the memory.
        decay: lambda^t (register DECAY) in the step.
    """
    found = {phase: events.none() for phase in PHASES}
    cycles = dict.fromkeys(PHASES, 0.0)
    for works in filter(None, programs):
        schedule = timing.schedule(cfg, works, latency)
        spent = timing.phase_cycles(works, schedule)
        for work in works:
            phase = timing.phase_of(work.command)
            found[phase] = events.summed((found[phase], events.of_command(cfg, work, decay)))
        over_time = events.of_time(schedule.cycles)
        for name in SHARED:
            for phase, count in shares(int(over_time[name]), spent).items():
                found[phase][name] += count
        for phase, count in spent.items():
            cycles[phase] += count
    return Step(cfg, found, cycles)


def mean(steps: Sequence[Step]) -> Step:
    """Of steps of one build."""
    found = {
        phase: {name: count / len(steps) for name, count in events.summed(s.events[phase] for s in steps).items()}
        for phase in PHASES
    }
    return Step(steps[0].cfg, found, {phase: sum(s.cycles[phase] for s in steps) / len(steps) for phase in PHASES})


def shares(whole: int, weights: dict[str, int]) -> dict[str, int]:
    """A number in whole parts by weights; the parts sum to it."""
    total, out, given, seen = sum(weights.values()), {}, 0, 0
    for name, weight in weights.items():
        seen += weight
        part = whole * seen // total - given if total else 0
        out[name], given = part, given + part
    return out
