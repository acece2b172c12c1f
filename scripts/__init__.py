"""Command-line entry points and the simulation infrastructure."""
