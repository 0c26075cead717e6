"""Charts, from frames alone."""
