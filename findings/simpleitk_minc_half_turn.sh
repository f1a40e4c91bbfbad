#!/bin/sh
# SimpleITK 2.5.7 writes and reads MINC as if its world were left-posterior-superior: the scan is turned by half a turn.
#
# Expected: an image that SimpleITK writes as MINC and as NIfTI lies at one place of the patient, whoever reads it.
# What happens: nibabel finds the NIfTI file where it was put, and the MINC file turned by 180 degrees about the axis
#   from feet to head. MINC's world is right-anterior-superior, as NIfTI's, but ITK leaves out the change of signs.
# Why it matters: left and right change places, and so do front and back, with no message. SimpleITK reads its own file
#   back as it was, so a round trip with it does not show the mistake. A mask in NIfTI then misses its image in MINC.
# Source: https://github.com/InsightSoftwareConsortium/ITK/pull/4864 (the fix; it is not in this release).
#
# Exit 0: as described. Anything else: the behaviour changed, or the packages cannot be installed.
# Needs Python 3.11 or newer and pip. Takes a minute, most of it for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet simpleitk==2.5.7 nibabel==5.3.2 h5py==3.16.0 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'END'
"""Write one image in two formats, and ask nibabel where its first voxel and its axes lie."""

import importlib.metadata
import sys

import nibabel
import numpy as np
import SimpleITK

image = SimpleITK.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6))
image.SetOrigin((10.0, 20.0, 30.0))  # ITK's world is left-posterior-superior
image.SetSpacing((1.0, 2.0, 3.0))
found = {}
for name in ("image.nii", "image.mnc"):
    SimpleITK.WriteImage(image, name)
    read = nibabel.load(name)
    values = np.asarray(read.dataobj)
    first = [int(n) for n in np.argwhere(values == 0)[0]]  # the voxel at the origin, however the axes are stored
    place = (read.affine @ [*first, 1.0])[:3]
    found[name] = [round(float(n), 3) for n in place]
    back = SimpleITK.ReadImage(name)
    print(f"{name}: voxel 0 lies at {found[name]} for nibabel, at {back.GetOrigin()} for SimpleITK")
for package in ("simpleitk", "nibabel"):
    print(package, importlib.metadata.version(package))
if found != {"image.nii": [-10.0, -20.0, 30.0], "image.mnc": [10.0, 20.0, 30.0]}:
    sys.exit("The behaviour has changed.")
END
