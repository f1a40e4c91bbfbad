"""The synthetic scans of `ucseg demo` and the page that shows them."""
