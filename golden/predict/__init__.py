"""Predictor: cycles and traffic of a training step of any network from its masks, without computing a value."""
