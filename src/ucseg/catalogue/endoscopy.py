"""Polyps in colonoscopy: the sets by themselves, and the bundle that PraNet made of them."""

from __future__ import annotations

from ucseg.catalogue.folders import HALVES
from ucseg.catalogue.layout import Layout, Part, PublicSet, pairs

_POLYP = "1=polyp"
_PRANET = "PraNet's bundle, Fan et al., MICCAI 2020"
_CLINICDB = (
    "Bernal et al., Computerized Medical Imaging and Graphics 43:99-111, 2015, doi 10.1016/j.compmedimag.2015.02.007"
)
_KVASIR = "Jha et al., Kvasir-SEG, MMM 2020, doi 10.1007/978-3-030-37734-2_37"
_LAST_FRAMES = (
    *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
    *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)
"""Of the 29 sequences of CVC-ClinicDB, by the README that comes with it."""
_CVC = "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/"


def _bundled(split: str, folder: str, **where: str) -> Part:
    """A folder of PraNet's bundle."""
    return Part(split, f"{folder}/image*/{{case}}.png", f"{folder}/mask*/{{case}}.png", where=where)


def _alone(
    title: str,
    folder: str,
    citation: str,
    count: int,
    *own: Layout,
    note: str,
    addresses: tuple[str, ...],
    found: tuple[str, ...],
) -> PublicSet:
    """A set of unknown licence that papers only test on: by itself, or as a folder of PraNet's TestDataset."""
    bundle = Layout(
        f"TestDataset/{folder}/images and masks ({_PRANET})",
        (_bundled("test", f"TestDataset/{folder}"),),
        mask_threshold=127,
    )
    return PublicSet(
        title=title,
        classes=_POLYP,
        modality="rgb",
        layouts=(bundle, *own),
        citation=citation,
        counts={"test": count},
        notes=f"All cases are test cases: predict them with a model trained on another set. {note}",
        addresses=addresses,
        found=found,
    )


ENDOSCOPY = {
    "polyps": PublicSet(
        title="Kvasir-SEG and CVC-ClinicDB as one set to train and test on",
        classes=_POLYP,
        modality="rgb",
        layouts=(
            Layout(
                f"TrainDataset and TestDataset ({_PRANET})",
                (
                    _bundled("train", "TrainDataset"),
                    _bundled("test", "TestDataset/{set}", set="Kvasir|CVC-ClinicDB"),
                ),
                mask_threshold=127,
            ),
            HALVES,
        ),
        licence="research and education only: those of kvasir-seg and cvc-clinicdb",
        citation=f"{_KVASIR}; {_CLINICDB}; split: Fan et al. (PraNet), MICCAI 2020, doi 10.1007/978-3-030-59725-2_26",
        counts={"train": 1450, "test": 162},
        notes="900 + 550 images for training, 100 + 62 for testing; there are no validation images. The split was "
        "drawn from images: sequences of CVC-ClinicDB are in training and test. The other test sets are cvc-300, "
        "cvc-colondb and etis; they can be imported from the same folder.",
        addresses=("https://github.com/DengPingFan/PraNet",),
        found=(
            "licence: as for kvasir-seg and cvc-clinicdb; none is stated with the bundle",
            "split: PraNet's makers confirm 900 + 550 and say that nothing was held out for validation (issues 52 and "
            "41 of their repository; 41 quotes the paper: drawn at random); 100 + 62: repositories that use it "
            "(second-hand)",
        ),
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
            pairs("images and masks, as published", "images/{case}.jpg", "masks/{case}.jpg", mask_threshold=127),
        ),
        licence="Simula's own: research and education, to be cited; commercial use by written permission only",
        citation=_KVASIR,
        notes="Masks are lossy JPEG. There are no patient ids: images of one patient can be in two splits.",
        addresses=("https://datasets.simula.no/kvasir-seg/", "https://datasets.simula.no/downloads/kvasir-seg.zip"),
        found=(
            "licence, number: the source of the makers' page (simula/datasets.simula.no)",
            "citation: the paper's entry at simula.no; the doi is that of the makers' page",
        ),
    ),
    "cvc-clinicdb": PublicSet(
        title="612 frames of 29 colonoscopy sequences (CVC-ClinicDB)",
        classes=_POLYP,
        modality="rgb",
        layouts=(
            Layout(
                "Original and Ground Truth",
                (Part("", "Original/{case}.*", "Ground Truth/{case}.*", last_of=_LAST_FRAMES),),
            ),
            Layout(f"TestDataset/CVC-ClinicDB ({_PRANET})", (_bundled("test", "TestDataset/CVC-ClinicDB"),)),
        ),
        licence="research and education only, no commercial use; images belong to Hospital Clinic, masks to CVC, "
        "Barcelona",
        citation=_CLINICDB,
        notes="Frames of one sequence are alike. The number of a frame gives its sequence, and a sequence is one "
        "subject, which no split divides. The 29 sequences come from 25 examinations; which share one is not known. "
        "Other splits, such as PraNet's, were drawn from frames: there a sequence is in training and test.",
        addresses=("https://polyp.grand-challenge.org/CVCClinicDB/", _CVC),
        found=(
            "licence, sequences: the database's own README, as a repository keeps it; Dataset Ninja quotes the "
            "makers' page alike (copies on Hugging Face that say CC BY 4.0 are wrong then)",
            "citation: the makers' page, as Dataset Ninja quotes it",
        ),
    ),
    "cvc-300": _alone(
        "60 frames of CVC-300, the test set of EndoScene",
        "CVC-300",
        "Vazquez et al., Journal of Healthcare Engineering 2017:4037190, doi 10.1155/2017/4037190",
        60,
        note="EndoScene's 912 frames are the 612 of cvc-clinicdb and 300 of cvc-colondb: do not count on these 60 "
        "being other frames than those.",
        addresses=(f"{_CVC}cvc-endoscenestill/ (on registration)",),
        found=(
            "licence: not found, copies say research only",
            "60, 912 and its parts, citation: torch-em and others (second-hand)",
        ),
    ),
    "cvc-colondb": _alone(
        "380 frames of CVC-ColonDB",
        "CVC-ColonDB",
        "Bernal et al., Pattern Recognition 45(9):3166-3182, 2012, doi 10.1016/j.patcog.2012.03.002",
        380,
        pairs("images and masks", "images/{case}.png", "masks/{case}.png", "test"),
        note="The makers' page speaks of 300 frames of 15 sequences; the 380 are those of PraNet's bundle and of "
        "copies. Papers on PraNet's bundle often cite Tajbakhsh et al., IEEE TMI 35(2):630-644, 2016 for it, whose "
        "own data is another set.",
        addresses=("http://mv.cvc.uab.es/projects/colon-qa/cvccolondb", f"{_CVC} (on registration)"),
        found=(
            "300 frames, citation: the makers' page, which states no licence where it was read; copies say research "
            "only",
            "380 frames: torch-em, a review; PraNet's makers, asked (issue 34), suppose that the set grew "
            "(second-hand)",
        ),
    ),
    "etis": _alone(
        "196 frames of ETIS-LaribPolypDB",
        "ETIS-LaribPolypDB",
        "Silva et al., International Journal of Computer Assisted Radiology and Surgery 9(2):283-293, 2014, doi "
        "10.1007/s11548-013-0926-3",
        196,
        pairs("images and masks", "images/{case}.*", "masks/{case}.*", "test"),
        note="The frames are of 34 sequences with 44 polyps. Images and masks belong to Lariboisière hospital and "
        "the laboratory ETIS.",
        addresses=("https://polyp.grand-challenge.org/EtisLarib/",),
        found=(
            "licence: not found, copies say research only",
            "numbers, owners, citation: a review and others (second-hand)",
        ),
    ),
}  # fmt: skip
