"""MRI beside the HDF5 sets: LGG brain slices and PROMISE12 prostate volumes."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import PublicSet, pairs

MRI = {
    "lgg-mri": PublicSet(
        title="FLAIR abnormality of lower-grade gliomas in 3,929 MRI slices of 110 patients",
        classes="1=abnormality",
        modality="rgb",
        layouts=(
            pairs("kaggle_3m/PATIENT/NAME.tif and NAME_mask.tif", "{subject}/{case}.tif", "{subject}/{case}_mask.tif",
                  subject=r"TCGA_\w+", case=r"TCGA_\w+_\d+_\d+"),
            HALVES,
        ),
        licence="CC BY-NC-SA 4.0 (Kaggle; second-hand)",
        citation="Buda, Saha and Mazurowski, Computers in Biology and Medicine 109:218-225, 2019, doi "
        "10.1016/j.compbiomed.2019.05.002",
        counts={"": 3929},
        notes="The three channels are pre-contrast, FLAIR and post-contrast, stored as colours. Many slices show no "
        "tumour; papers differ in whether they leave them out.",
        addresses=("https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",),
        found=(
            "licence: a data card that cites Kaggle's page; a copy on Hugging Face says CC BY 4.0 (both second-hand)",
            "110 patients: the maker's page (mateuszbuda.github.io); 3,929 slices, citation: repositories "
            "(second-hand)",
        ),
    ),
    "promise12": PublicSet(
        title="Prostate in 50 T2-weighted MRI volumes (PROMISE12)",
        classes="1=prostate",
        modality="mri",
        layouts=(
            pairs("TrainingData*/CaseNN.mhd and CaseNN_segmentation.mhd",
                  "train*/{case}.mhd", "train*/{case}_segmentation.mhd", case=r"Case\d+"),
            pairs("CaseNN.mhd and CaseNN_segmentation.mhd",
                  "{case}.mhd", "{case}_segmentation.mhd", case=r"Case\d+"),
        ),
        licence="its own, with Zenodo's record: free for research, the paper must be cited (second-hand)",
        citation="Litjens et al., Medical Image Analysis 18(2):359-373, 2014, doi 10.1016/j.media.2013.12.002; data: "
        "Litjens et al., Zenodo 2023, doi 10.5281/zenodo.8026660",
        counts={"": 50},
        notes="The challenge's 30 test and 20 live-challenge volumes are left out; whether the release at Zenodo has "
        "masks of the test volumes, sources disagree.",
        addresses=(
            "https://promise12.grand-challenge.org/Details/",
            "https://zenodo.org/records/8026660/files/training_data.zip",
        ),
        found=(
            "50 volumes: the challenge's page; 30 and 20: a repository (second-hand)",
            "licence, citation of the data: sarah-antillia/TensorFlow-FlexUNet-Image-Segmentation-PROMISE12-Prostate-"
            "Cancer, which quotes Zenodo's record (second-hand)",
        ),
    ),
}  # fmt: skip
