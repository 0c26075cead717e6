"""Measure: losses, divergences, text, importance, skills."""
