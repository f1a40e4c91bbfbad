"""A file in, an array with its place out, and back."""
