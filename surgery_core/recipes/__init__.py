"""Recipes: a whole experiment as a file."""
