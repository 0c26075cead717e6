"""The parts of the Surgery page."""
