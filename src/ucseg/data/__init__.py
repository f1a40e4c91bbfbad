"""From scans on disk to batches: formats, manifest, splits, checks, plan, prepared cases, augmentation, streams."""
