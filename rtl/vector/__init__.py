"""The vector stage in Amaranth."""
