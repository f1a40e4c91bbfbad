"""The training loop and what it leaves on disk. It knows no method by name and no file of the data."""
