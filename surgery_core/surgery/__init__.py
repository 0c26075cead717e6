"""Surgery: an operated model, as a view or in place."""
