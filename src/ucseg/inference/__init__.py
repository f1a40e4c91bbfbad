"""From a trained method and a scan to a mask with its uncertainty, in the scan's own geometry."""
