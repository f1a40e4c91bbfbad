"""What `ucseg report` shows: data, plan, curves, numbers and cases of one training, on one page."""
