"""Rooms: people who work on the same tasks at the same time, without accounts, on one server."""
