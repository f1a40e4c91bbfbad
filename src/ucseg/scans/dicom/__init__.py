"""DICOM: series and images, segmentations, and results written as DICOM."""
