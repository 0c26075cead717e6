"""Proof: is it right? Independent ways to the same numbers."""
