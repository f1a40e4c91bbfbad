"""MRI beside the HDF5 sets: LGG brain slices and PROMISE12 prostate volumes."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import Layout, Part, PublicSet

MRI = {
    "lgg-mri": PublicSet(
        title="FLAIR abnormality of lower-grade gliomas in 3,929 MRI slices of 110 patients",
        classes="1=abnormality",
        modality="rgb",
        layouts=(
            Layout(
                "kaggle_3m/PATIENT/NAME.tif and NAME_mask.tif",
                (
                    Part("", "{subject}/{case}.tif", "{subject}/{case}_mask.tif",
                         where={"subject": r"TCGA_\w+", "case": r"TCGA_\w+_\d+_\d+"}),
                ),
            ),
            HALVES,
        ),
        licence="CC BY-NC-SA 4.0 (Kaggle)",
        citation="Buda, Saha and Mazurowski, Computers in Biology and Medicine 109:218-225, 2019",
        counts={"": 3929},
        notes="The three channels are pre-contrast, FLAIR and post-contrast, stored as colours. Many slices show no "
        "tumour; papers differ in whether they leave them out.",
    ),
    "promise12": PublicSet(
        title="Prostate in 50 T2-weighted MRI volumes (PROMISE12)",
        classes="1=prostate",
        modality="mri",
        layouts=(
            Layout(
                "TrainingData*/CaseNN.mhd and CaseNN_segmentation.mhd",
                (Part("", "train*/{case}.mhd", "train*/{case}_segmentation.mhd", where={"case": r"Case\d+"}),),
            ),
            Layout(
                "CaseNN.mhd and CaseNN_segmentation.mhd",
                (Part("", "{case}.mhd", "{case}_segmentation.mhd", where={"case": r"Case\d+"}),),
            ),
        ),
        licence="",
        citation="Litjens et al., Medical Image Analysis 18(2):359-373, 2014, doi 10.1016/j.media.2013.12.002",
        counts={"": 50},
        notes="The challenge's 30 test volumes have no masks and are left out. The data are at "
        "zenodo.org/records/8026660.",
    ),
}  # fmt: skip
