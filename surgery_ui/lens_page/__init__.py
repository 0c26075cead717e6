"""The parts of the Lens page."""
