"""Ultrasound: thyroid nodules (TN3K, DDTI), breast lesions (BUSI), fetal heads (HC18)."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import Download, Layout, Part, PublicSet, Split, pairs

_ZENODO = "https://zenodo.org/records/1327317/files"
_TN3K_TEST = Part("test", "test-image/{case}.jpg", "test-mask/{case}.jpg")


def _fold(number: int) -> Layout:
    file = f"tn3k-trainval-fold{number}.json"
    parts = tuple(
        Part(split, "trainval-image/{case}.jpg", "trainval-mask/{case}.jpg", (f"{file}#{key}",))
        for split, key in (("train", "train"), ("validation", "val"))
    )
    return Layout(
        f"trainval-image, trainval-mask, test-image, test-mask and {file}", (*parts, _TN3K_TEST), mask_threshold=127
    )


ULTRASOUND = {
    "tn3k": PublicSet(
        title="Thyroid nodules in 3,493 ultrasound images (TN3K)",
        classes="1=nodule",
        modality="ultrasound",
        layouts=(
            Layout(
                "trainval-image, trainval-mask, test-image and test-mask",
                (Part("train", "trainval-image/{case}.jpg", "trainval-mask/{case}.jpg"), _TN3K_TEST),
                mask_threshold=127,
            ),
            HALVES,
        ),
        licence="MIT, by the tag of the makers' copy on Hugging Face (second-hand)",
        citation="Gong et al., Computers in Biology and Medicine 155:106389, 2023, doi "
        "10.1016/j.compbiomed.2022.106389; Gong et al., ISBI 2021, doi 10.1109/ISBI48211.2021.9434087",
        splits={f"fold{n}": Split(f"fold {n} of the five published ones", layout=_fold(n)) for n in range(5)},
        counts={"train": 2879, "test": 614},
        notes="Masks are lossy JPEG. The images are of 2,421 patients, but there are no patient ids: images of one "
        "patient can be in two splits. Papers that train on TN3K and DDTI together: unite both in one folder of the "
        "form `halves`.",
        addresses=(
            "https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
            "https://huggingface.co/datasets/haifan-gong/TN3K",
        ),
        found=(
            "licence: vincenzocivale/BioMLLM, which took the data from there; the makers' README says MIT of the "
            "code only",
            "2,879 and 614, 2,421 patients, dois: torch-em (second-hand); five folds: the makers' README",
        ),
    ),
    "ddti": PublicSet(
        title="Thyroid nodules in 637 ultrasound images (DDTI), with the masks shared beside TN3K",
        classes="1=nodule",
        modality="ultrasound",
        layouts=(
            pairs("2_preprocessed_data/stage1/p_image and p_mask",
                  "stage1/p_image/{case}.png", "stage1/p_mask/{case}.png"),
            pairs("1_or_data/image and mask", "1_or_data/image/{case}.png", "1_or_data/mask/{case}.png"),
        ),
        citation="Pedraza et al., Proc. SPIE 9287:188-193, 2015, doi 10.1117/12.2073532",
        counts={"": 637},
        notes="The makers share outlines in XML; the masks are others' work from them.",
        addresses=(
            "http://cimalab.intec.co/applications/thyroid/",
            "https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation (with the masks)",
        ),
        found=("licence: not found; 637, citation: openmedlab's list of data sets, torch-em (second-hand)",),
    ),
    "busi": PublicSet(
        title="Breast lesions in 780 ultrasound images, 133 of them normal (BUSI)",
        classes="1=lesion",
        modality="ultrasound",
        layouts=(
            Layout(
                "benign, malignant and normal with NAME.png, NAME_mask.png, NAME_mask_1.png, ...",
                (Part("", "{case}.png", "{case}_mask*.png", several=True,
                      where={"case": r"(?:benign|malignant|normal) \(\d+\)"}),),
            ),
        ),
        citation="Al-Dhabyani et al., Data in Brief 28:104863, 2020, doi 10.1016/j.dib.2019.104863",
        counts={"": 780},
        notes="437 images show benign and 210 malignant lesions. The several masks of an image with several lesions "
        "are one mask here. Some images are there twice (`ucseg check` names them); there are no patient ids (600 "
        "patients).",
        addresses=("https://scholar.cu.edu.eg/?q=afahmy/pages/dataset", "https://scholar.cu.edu.eg/Dataset_BUSI.zip"),
        found=(
            "licence: the makers' was not found; copies say CC0 (Dataset Ninja, MedSegBench after Kaggle) or CC BY 4.0 "
            "(MedMNIST, whose BreastMNIST is made of it)",
            "numbers, citation: openmedlab's list of data sets (second-hand); the file: torch-em",
        ),
    ),
    "hc18": PublicSet(
        title="Fetal heads in 999 ultrasound images (HC18)",
        classes="1=head",
        modality="ultrasound",
        layouts=(
            pairs("NAME.png and NAME_Annotation.png", "{case}.png", "{case}_Annotation.png",
                  case=r"(?P<subject>\d+)_\d*HC"),
        ),
        licence="CC BY 4.0 (Zenodo; second-hand)",
        citation="van den Heuvel et al., PLoS ONE 13(8):e0200412, 2018, doi 10.1371/journal.pone.0200412",
        counts={"": 999},
        fill_outlines=True,
        downloads=(
            Download(f"{_ZENODO}/training_set.zip",
                     "sha256:fd20d7909df892cfbdc0850de18072dbdad4dc3bc0a57202d4cc818d4715de36"),
        ),
        notes="Annotations are outlines, which are filled. The leading digits are the exam; there are more exams (806) "
        "than women (551), so images of one can be in two splits. The 335 test images have no annotations.",
        addresses=("https://zenodo.org/records/1327317", "https://hc18.grand-challenge.org/"),
        found=(
            "licence, exams: a repository that checks Zenodo's record and its files; Dataset Ninja (second-hand)",
            "numbers, citation: the same, and a card on Hugging Face (second-hand)",
        ),
    ),
}  # fmt: skip
