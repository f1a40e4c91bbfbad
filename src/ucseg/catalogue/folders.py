"""Conventions that many sets follow: halves of semi-supervised papers, nnU-Net raw folders, BIDS derivatives."""

from __future__ import annotations

from ucseg.catalogue.layout import Layout, Part, PublicSet

HALVES = Layout(
    "labeled/image, labeled/mask, unlabeled/image, val/image, val/mask and TestDataset/NAME/image, .../mask",
    (
        Part("train", "labeled/image/{case}.*", "labeled/mask/{case}.*"),
        Part("train", "unlabeled/image/{case}.*"),
        Part("validation", "val/image/{case}.*", "val/mask/{case}.*", optional=True),
        Part("test", "TestDataset/{set}/image/{case}.*", "TestDataset/{set}/mask/{case}.*", optional=True),
    ),
)
"""Plain images that a paper has already divided into labelled and unlabelled ones; UC-Seg's public code reads it."""

FOLDERS = {
    "halves": PublicSet(
        title="Any plain images divided into labeled and unlabeled folders, as several semi-supervised papers do",
        layouts=(HALVES,),
        licence="that of the data",
        citation="that of the data",
    ),
    "nnunet": PublicSet(
        title="Any folder in nnU-Net's raw format: classes and channels are those of dataset.json",
        layouts=(
            Layout(
                "dataset.json, imagesTr/CASE_0000.EXT and labelsTr/CASE.EXT",
                convention="nnunet",
                markers=("dataset.json", "imagesTr/*_0000.*", "labelsTr/*.*"),
            ),
        ),
        licence="that of the data",
        citation="format: Isensee et al., Nature Methods 18:203-211, 2021",
        notes="Test images (imagesTs) have no masks in this format; they can be predicted.",
    ),
    "bids": PublicSet(
        title="Any BIDS dataset with masks among its derivatives",
        layouts=(
            Layout(
                "sub-ID/.../IMAGE.nii.gz and derivatives/.../IMAGE_SUFFIX.nii.gz",
                convention="bids",
                markers=("sub-*.nii*", "derivatives/**sub-*.nii*"),
            ),
        ),
        licence="that of the data",
        citation="format: Gorgolewski et al., Scientific Data 3:160044, 2016",
        notes="A mask is that of the image with whose name its own begins, or of the only image of its subject and "
        "session. Where a subject has several masks, `ucseg init --masks GLOB` says which are meant.",
    ),
}
