"""The golden model: what every unit computes and, cycle for cycle, when it does so.

Written in numpy from the mathematics. It imports `arch` and never `rtl`, so that a mistake in the
hardware cannot be copied into the model that checks it.
"""
