"""Sweeps: one kind of edit tried everywhere."""
