"""The Room page: joining, tasks, the board, and what an organiser does."""
