#!/bin/sh
# tifffile 2026.3.3: a boolean picture with channels comes back as another picture.
#
# Expected: `imread(file)` after `imwrite(file, picture)` gives the picture, or one of the two reports an error.
#   TIFF 6.0 stores the channels of a pixel side by side (PlanarConfiguration 1), also where each has one bit.
# What happens: the file says PlanarConfiguration 1, but holds a byte of eight pixels for each channel in turn.
#   The reader goes by what the file says, and gives other pixels. There is no error and no warning.
#   With PlanarConfiguration 2, or with uint8, the picture comes back.
# Why it matters: a mask of several classes is often a boolean array of rows x columns x classes. Saved like this,
#   half of its pixels change, and the array still looks like a mask.
# Source: TIFF 6.0, page 38 (PlanarConfiguration); https://pypi.org/project/tifffile/2026.3.3/
#
# Exit 0: as described. Anything else: the behaviour changed, or the packages cannot be installed.
# Needs Python 3.11 or newer and pip.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet tifffile==2026.3.3 numpy==2.4.6
cd "$folder"
environment/bin/python -W always - <<'END'
"""Save a boolean picture of three channels in several ways, and read it again."""

import sys

import numpy as np
import tifffile

print("tifffile", tifffile.__version__, "numpy", np.__version__)
rows, columns, classes = 20, 32, 3
picture = np.random.default_rng(0).integers(0, 2, (rows, columns, classes)).astype(bool)


def kept(array, how):
    tifffile.imwrite("picture.tif", array, photometric="minisblack", planarconfig=how)
    found = tifffile.imread("picture.tif")
    assert found.dtype == array.dtype and found.shape == array.shape
    print(f"{array.dtype}, PlanarConfiguration {how}: {np.mean(found == array):.0%} of the values come back")
    return bool((found == array).all())


as_described = [
    kept(picture.astype(np.uint8), "contig"),
    kept(np.moveaxis(picture, -1, 0), "separate"),
    not kept(picture, "contig"),
]
with tifffile.TiffFile("picture.tif") as file:
    page = file.pages[0]
    with open("picture.tif", "rb") as stored:
        stored.seek(page.dataoffsets[0])
        bits = np.unpackbits(np.frombuffer(stored.read(page.databytecounts[0]), np.uint8))
    print("the file says: bits", page.bitspersample, "channels", page.samplesperpixel, "planes", int(page.planarconfig))
bytes_by_channel = bits.reshape(rows, columns // 8, classes, 8).swapaxes(2, 3).reshape(picture.shape)
as_described.append(bool((bytes_by_channel == picture).all()))
print("read as a byte of eight pixels for each channel in turn, the file holds the picture:", as_described[-1])
sys.exit(0 if all(as_described) else "The behaviour has changed.")
END
