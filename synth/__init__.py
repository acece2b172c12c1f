"""What the accelerator costs: cell area, FPGA resources and clock of every unit, from Yosys and nextpnr."""
