"""A preset, a skill, a kind of sweep and a tool."""
