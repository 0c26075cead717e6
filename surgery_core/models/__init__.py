"""Models: found by name, checked for memory, opened."""
