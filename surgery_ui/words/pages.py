"""What the pages are called."""

from __future__ import annotations

BAR = (
    ("", "Surgery", "content_cut"), ("lens", "Lens", "grid_on"), ("sweep", "Sweep", "bar_chart"),
    ("skills", "Skills", "school"), ("gallery", "Gallery", "collections_bookmark"), ("compare", "Compare", "view_column"),
    ("models", "Models", "database"), ("room", "Room", "groups"), ("glossary", "Glossary", "menu_book"),
)  # fmt: skip
"""The pages in the order of the bar: their paths, what it calls them, and their icons."""
