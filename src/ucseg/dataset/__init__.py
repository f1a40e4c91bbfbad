"""What lies in dataset.yaml and cases.csv."""
