"""Lenses: what each layer would predict."""
