#!/bin/sh
# rt-utils 1.2.7: structures drawn on pixels that are not square are written elsewhere, in another shape.
#
# Expected: a mask of rows 10 to 19 and columns 5 to 14, with rows 2 mm and columns 1 mm apart, is written as contours
#   from 5 to 14 mm across and from 20 to 38 mm down: (0028,0030) Pixel Spacing names the distance of rows first.
# What happens: the distance of rows is taken along the rows, and that of columns along the columns.
#   The contours reach from 10 to 28 mm across and from 10 to 19 mm down.
# Why it matters: MR images often have such pixels. A structure set for treatment or for training is then wrong for every
#   other program. rt-utils itself reads it back as drawn, so a round trip with it does not show the mistake.
# Source: DICOM PS3.3, 10.7.1.3; https://github.com/qurit/rt-utils/issues/92 (open);
#   rt_utils/image_helper.py, get_pixel_to_patient_transformation_matrix.
#
# Exit 0: as described. Anything else: the behaviour changed, or the packages cannot be installed.
# Needs Python 3.11 or newer and pip. Takes a minute, most of it for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet rt-utils==1.2.7 pydicom==3.0.2 numpy==2.4.6 \
    opencv-python==5.0.0.93
cd "$folder"
environment/bin/python - <<'END'
"""Write a box on pixels of 2 mm x 1 mm, and look at where its contours lie."""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from rt_utils import RTStructBuilder

ROWS_APART, COLUMNS_APART = 2.0, 1.0
study, series, frame = generate_uid(), generate_uid(), generate_uid()
Path("series").mkdir()
for k in range(3):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Nobody", "1", "", ""
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260101", "120000", "1", ""
    image.ReferringPhysicianName, image.PositionReferenceIndicator, image.Manufacturer = "", "", "none"
    image.Modality, image.SeriesNumber, image.InstanceNumber, image.PatientPosition = "MR", 1, k + 1, "HFS"
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * k]
    image.PixelSpacing, image.SliceThickness = [ROWS_APART, COLUMNS_APART], 3
    image.Rows, image.Columns, image.SamplesPerPixel = 40, 40, 1
    image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelData = np.zeros((40, 40), np.uint16).tobytes()
    image.save_as(f"series/{k}.dcm", enforce_file_format=True)

drawn = np.zeros((40, 40, 3), bool)
drawn[10:20, 5:15, 1] = True
made = RTStructBuilder.create_new(dicom_series_path="series")
made.add_roi(mask=drawn, name="box")
made.save("made.dcm")
(contour,) = pydicom.dcmread("made.dcm").ROIContourSequence[0].ContourSequence
points = np.array(contour.ContourData, float).reshape(-1, 3)
across, down = ([float(points[:, axis].min()), float(points[:, axis].max())] for axis in (0, 1))
read = RTStructBuilder.create_from(dicom_series_path="series", rt_struct_path="made.dcm").get_roi_mask_by_name("box")

print("rt-utils", importlib.metadata.version("rt-utils"))
print(f"across: {across} mm, expected {[5 * COLUMNS_APART, 14 * COLUMNS_APART]}")
print(f"down:   {down} mm, expected {[10 * ROWS_APART, 19 * ROWS_APART]}")
print(f"read back by rt-utils: {int(read.sum())} pixels, {int((read & drawn).sum())} of them drawn, of {int(drawn.sum())}")
if (across, down) != ([10.0, 28.0], [10.0, 19.0]):
    sys.exit("The behaviour has changed.")
END
