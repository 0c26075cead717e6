"""A report that proves itself: what an experiment came to, on a page that says how to find out whether it is so."""
