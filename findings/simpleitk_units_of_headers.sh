#!/bin/sh
# SimpleITK 2.5.7 passes over the unit in NRRD and MetaImage headers, and calls the numbers millimetres in NIfTI.
#
# Expected: a scan whose header says voxels of 1 cm has a spacing of 10, as ITK counts in millimetres. At least its unit
#   goes along when it is converted. From NIfTI in micrometres ITK does convert.
# What happens: "space units" of NRRD and "DistanceUnits" of MetaImage change nothing: the spacing is 1. Written as NIfTI,
#   the file says voxels of 1 mm.
# Why it matters: volumes and distances are wrong, here by 10 along each axis, with no message. A mask whose program does
#   heed the unit lies elsewhere than its image. Scanners of small animals and microscopes write such headers.
# Source: https://github.com/ANTsX/ANTsPy/issues/514 (NRRD), https://teem.sourceforge.net/nrrd/format.html ("space units").
#
# Exit 0: as described. Anything else: the behaviour changed, or the packages cannot be installed.
# Needs Python 3.11 or newer and pip. Takes a minute, most of it for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet simpleitk==2.5.7 nibabel==5.3.2 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'END'
"""Read three scans of one size, 1 cm a voxel, in three formats, and convert them to NIfTI."""

import importlib.metadata
import sys
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

voxels = bytes(5 * 4 * 3)
meta = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "DimSize = 5 4 3", "ElementSpacing = 1 1 1"]
meta += ["DistanceUnits = cm", "ElementType = MET_UCHAR", "ElementDataFile = LOCAL", ""]
Path("scan.mha").write_bytes("\n".join(meta).encode() + voxels)
nrrd = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 5 4 3", "space: left-posterior-superior"]
nrrd += ["space directions: (1,0,0) (0,1,0) (0,0,1)", 'space units: "cm" "cm" "cm"', "space origin: (0,0,0)"]
nrrd += ["kinds: domain domain domain", "encoding: raw", "", ""]
Path("scan.nrrd").write_bytes("\n".join(nrrd).encode() + voxels)
nifti = nibabel.Nifti1Image(np.zeros((5, 4, 3), np.uint8), np.diag([10000.0, 10000.0, 10000.0, 1.0]))
nifti.header.set_xyzt_units("micron")
nibabel.save(nifti, "scan.nii")

found = {}
for name in ("scan.mha", "scan.nrrd", "scan.nii"):
    image = SimpleITK.ReadImage(name)
    SimpleITK.WriteImage(image, "converted.nii")
    header = nibabel.load("converted.nii").header
    found[name] = (image.GetSpacing()[0], float(header.get_zooms()[0]), header.get_xyzt_units()[0])
    print(f"{name}: spacing {found[name][0]:g}; converted to NIfTI: {found[name][1]:g} {found[name][2]}")
for package in ("simpleitk", "nibabel"):
    print(package, importlib.metadata.version(package))
if [tuple(round(n, 3) if isinstance(n, float) else n for n in one) for one in found.values()] != [
    (1.0, 1.0, "mm"),
    (1.0, 1.0, "mm"),
    (10.0, 10.0, "mm"),
]:
    sys.exit("The behaviour has changed.")
END
