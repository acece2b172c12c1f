"""What a training step costs in energy: events counted as the RTL counts them, priced by a table with sources."""
