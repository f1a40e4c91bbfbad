"""Methods compared on the same cases: a grid of training runs, and what can and cannot be said of their differences."""
