"""Workshops: tasks that lead a room of people through experiments, and whether somebody's run is what a task asks for."""
