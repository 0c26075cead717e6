"""The Compare page: up to six plans side by side."""
