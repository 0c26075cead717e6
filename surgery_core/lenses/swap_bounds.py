"""How strong a swap may be, without torch: pages and recipes ask too."""

MOST_STRENGTH = 10
"""A swap's strength is from minus this to this; 1 is a whole swap."""
