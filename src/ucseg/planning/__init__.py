"""What the scans are like, and so which plan."""
