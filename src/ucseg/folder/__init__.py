"""How a folder of files becomes a dataset, or a list of scans."""
