"""The parts of the Skills page."""
