"""The accelerator in Amaranth. Imports `arch` and never `golden`."""
