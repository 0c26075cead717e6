"""Cuts mended: what is missing is made up for by weights that are fitted, not trained."""
