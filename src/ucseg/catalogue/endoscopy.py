"""Polyps in colonoscopy: the sets by themselves, and the bundle that PraNet made of them."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import Layout, Part, PublicSet

_POLYP = "1=polyp"
_PRANET = "PraNet's bundle, Fan et al., MICCAI 2020"


def _alone(title: str, folder: str, citation: str, count: int, *own: Layout, licence: str = "") -> PublicSet:
    """A set that papers only test on: by itself, or as a folder of PraNet's TestDataset."""
    bundled = Part("test", f"TestDataset/{folder}/image*/{{case}}.png", f"TestDataset/{folder}/mask*/{{case}}.png")
    layouts = (Layout(f"TestDataset/{folder}/images and masks ({_PRANET})", (bundled,), mask_threshold=127), *own)
    notes = "All cases are test cases: predict them with a model trained on another set."
    return PublicSet(title, _POLYP, "rgb", layouts, licence, citation, counts={"test": count}, notes=notes)


ENDOSCOPY = {
    "polyps": PublicSet(
        title="Kvasir-SEG and CVC-ClinicDB as one set to train and test on",
        classes=_POLYP,
        modality="rgb",
        layouts=(
            Layout(
                f"TrainDataset and TestDataset ({_PRANET})",
                (
                    Part("train", "TrainDataset/image*/{case}.png", "TrainDataset/mask*/{case}.png"),
                    Part(
                        "test",
                        "TestDataset/{set}/image*/{case}.png",
                        "TestDataset/{set}/mask*/{case}.png",
                        where={"set": "Kvasir|CVC-ClinicDB"},
                    ),
                ),
                mask_threshold=127,
            ),
            HALVES,
        ),
        licence="",
        citation="Jha et al., MMM 2020; Bernal et al., Computerized Medical Imaging and Graphics 43:99-111, 2015; "
        "split: Fan et al. (PraNet), MICCAI 2020",
        counts={"train": 1450, "test": 162},
        notes="For the terms see kvasir-seg and cvc-clinicdb. The other test sets are cvc-300, cvc-colondb and etis; "
        "they can be imported from the same folder.",
    ),
    "kvasir-seg": PublicSet(
        title="1,000 colonoscopy images with polyps (Kvasir-SEG)",
        classes=_POLYP,
        modality="rgb",
        layouts=(
            Layout(
                "train, validation and test folders of images and masks",
                tuple(
                    Part(split, f"{folder}/images/{{case}}.*", f"{folder}/masks/{{case}}.*")
                    for split, folder in (("train", "train"), ("validation", "val*"), ("test", "test"))
                ),
                mask_threshold=127,
            ),
            Layout(
                "images and masks, as published",
                (Part("", "images/{case}.jpg", "masks/{case}.jpg"),),
                mask_threshold=127,
            ),
        ),
        licence="terms of Simula (datasets.simula.no); HyperKvasir, which holds these images, is CC BY 4.0",
        citation="Jha et al., Kvasir-SEG, MMM 2020, doi 10.1007/978-3-030-37734-2_37",
        notes="Masks are lossy JPEG. There are no patient ids: images of one patient can be in two splits.",
    ),
    "cvc-clinicdb": PublicSet(
        title="612 frames of 29 colonoscopy sequences (CVC-ClinicDB)",
        classes=_POLYP,
        modality="rgb",
        layouts=(
            Layout("Original and Ground Truth", (Part("", "Original/{case}.*", "Ground Truth/{case}.*"),)),
            Layout(
                f"TestDataset/CVC-ClinicDB ({_PRANET})",
                (
                    Part("test", "TestDataset/CVC-ClinicDB/image*/{case}.png",
                         "TestDataset/CVC-ClinicDB/mask*/{case}.png"),
                ),
            ),
        ),
        licence="",
        citation="Bernal et al., Computerized Medical Imaging and Graphics 43:99-111, 2015",
        notes="Frames of one sequence are alike, and their names do not tell the sequence: a random split leaks.",
    ),
    "cvc-300": _alone(
        "60 frames of CVC-300, the test set of EndoScene",
        "CVC-300",
        "Vazquez et al., Journal of Healthcare Engineering 2017:4037190",
        60,
    ),
    "cvc-colondb": _alone(
        "380 frames of CVC-ColonDB",
        "CVC-ColonDB",
        "Bernal et al., Pattern Recognition 45(9):3166-3182, 2012; Tajbakhsh et al., IEEE TMI 35(2):630-644, 2016",
        380,
        Layout("images and masks", (Part("test", "images/{case}.png", "masks/{case}.png"),)),
    ),
    "etis": _alone(
        "196 frames of ETIS-LaribPolypDB",
        "ETIS-LaribPolypDB",
        "Silva et al., International Journal of Computer Assisted Radiology and Surgery 9(2):283-293, 2014",
        196,
        Layout("images and masks", (Part("test", "images/{case}.*", "masks/{case}.*"),)),
    ),
}  # fmt: skip
