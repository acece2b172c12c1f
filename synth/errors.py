"""The one error of the package: something was asked for that cannot be synthesised, or a tool failed."""

from __future__ import annotations


class SynthError(RuntimeError):
    """Says what is wrong, with value and bound, and what to do."""
