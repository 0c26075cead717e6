"""The Room page: a workshop with tasks and a board, for people and for whoever holds it."""

from surgery_ui.room_page.view import room_page

room_page()
