"""The lesion segmentation tasks of the ISIC challenges of 2016, 2017 and 2018."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import Download, Layout, Part, PublicSet, pairs

_ARCHIVE = "https://isic-challenge-data.s3.amazonaws.com"
_NAME = r"ISIC_\d+"

_SHA256 = {
    "ISIC2018_Task1-2_Training_Input": "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
    "ISIC2018_Task1_Training_GroundTruth": "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
    "ISIC2018_Task1-2_Validation_Input": "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
    "ISIC2018_Task1_Validation_GroundTruth": "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
    "ISIC2018_Task1-2_Test_Input": "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
    "ISIC2018_Task1_Test_GroundTruth": "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
}
"""As torch-em publishes them; for the other years none was found."""

_FOLDERS = {
    2016: ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth"),
    2017: ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
    2018: ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"),
}
"""Of images and masks; braces stand for the split."""
_SPLIT = {"train": "Training", "validation": "Validation", "test": "Test"}
_PLAIN = pairs(
    "images/NAME.jpg and masks/NAME_segmentation.png", "images/{case}.*", "masks/{case}_segmentation.png", case=_NAME
)


def _challenge(
    year: int, counts: dict[str, int], licence: str, citation: str, *more: Layout, found: tuple[str, ...]
) -> PublicSet:
    """The challenge of a year; its splits are those of `counts`."""
    words = {split: "Test_v2" if (year, split) == (2017, "test") else _SPLIT[split] for split in counts}
    folders = {split: [name.format(word) for name in _FOLDERS[year]] for split, word in words.items()}
    parts = tuple(
        Part(
            split,
            f"{images}/{{case}}.jpg",
            f"{masks}/{{case}}_segmentation.png",
            where={"case": _NAME},
            optional=split != "train",
        )
        for split, (images, masks) in folders.items()
    )
    shared = year < 2018
    return PublicSet(
        title=f"Skin lesions in dermoscopy, ISIC challenge {year}",
        classes="1=lesion",
        modality="rgb",
        layouts=(Layout("the challenge's own folders", parts), *more, _PLAIN),
        licence=licence,
        citation=citation,
        counts=counts,
        downloads=tuple(
            Download(f"{_ARCHIVE}/{year}/{name}.zip", f"sha256:{_SHA256[name]}" if name in _SHA256 else "")
            for pair in folders.values()
            for name in pair
        ),
        notes=_AGAIN if shared else "",
        addresses=(f"https://challenge.isic-archive.com/data/#{year}",),
        found=(*found, *(["shared images: a card on Hugging Face marks them (second-hand)"] if shared else [])),
    )


_AGAIN = "Many of its training images are in the training set of 2018 too: do not test a model of one year on another."

DERMOSCOPY = {
    "isic-2016": _challenge(
        2016,
        {"train": 900, "test": 379},
        "CC0 (second-hand)",
        "Gutman et al., arXiv:1605.01397",
        found=(
            "numbers: the paper's abstract",
            "licence: a repository that read it on the challenge's data page, Papers with Code; MedSegBench says CC "
            "BY-NC (all second-hand)",
        ),
    ),
    "isic-2017": _challenge(
        2017,
        {"train": 2000, "validation": 150, "test": 600},
        "CC0 (second-hand)",
        "Codella et al., ISBI 2018:168-172, doi 10.1109/ISBI.2018.8363547, arXiv:1710.05006",
        found=(
            "2,000 training images: the challenge's page; 150 and 600, citation: repositories (second-hand)",
            "licence: Dataset Ninja and a repository, which read it on the challenge's page; another says CC BY-NC "
            "(all second-hand)",
        ),
    ),
    "isic-2018": _challenge(
        2018,
        {"train": 2594, "validation": 100, "test": 1000},
        "CC BY-NC 4.0 (second-hand)",
        "Codella et al., arXiv:1902.03368; Tschandl et al., Scientific Data 5:180161, 2018, doi 10.1038/sdata.2018.161",
        HALVES,
        found=(
            "licence: Dataset Ninja, which read it on the challenge's page, MedSegBench (second-hand)",
            "numbers, citation: MedSegBench (second-hand)",
        ),
    ),
}
