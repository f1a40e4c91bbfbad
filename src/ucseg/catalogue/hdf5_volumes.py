"""LA, Pancreas-CT, BraTS19 and ACDC as the semi-supervised papers share them: HDF5 files and lists of names.

The published splits take the first n names of the list of training cases. Folders and lists are those of the public
code of UA-MT (LA), DTC and CoraNet (Pancreas) and SSL4MIS (BraTS19, ACDC).
"""

from __future__ import annotations

from collections.abc import Mapping

from ucseg.catalogue.layout import Layout, Part, PublicSet, first, pairs

_ACDC_FRAME = {"case": r"patient\d+_frame\d+"}
_ACDC_SLICE = {"case": r"patient\d+_frame\d+_slice_\d+"}


def _listed(file: str, where: Mapping[str, str] | None = None, **lists: str) -> tuple[Part, ...]:
    """Split by split, the files whose names are in one list, or in several with a space between them."""
    return tuple(
        Part(split, f"{file}#image", f"{file}#label", tuple(names.split()), where or {})
        for split, names in lists.items()
    )


HDF5_VOLUMES = {
    "la": PublicSet(
        title="Left atrium in 100 LGE-MRI volumes of the 2018 Atrial Segmentation Challenge",
        classes="1=left atrium",
        modality="mri",
        layouts=(
            Layout("NAME/mri_norm2.h5 with train.list and test.list",
                   _listed("{case}/mri_norm2.h5", train="train.list", test="test.list")),
        ),
        citation="Xiong et al., Medical Image Analysis 67:101832, 2021, doi 10.1016/j.media.2020.101832; "
        "split: Yu et al. (UA-MT), MICCAI 2019, arXiv:1907.07034",
        splits=first({4: "5 %, as in SS-Net", 8: "10 %", 16: "20 %, as in UA-MT"}, 80),
        counts={"train": 80, "test": 20},
        notes="The challenge has 154 scans of 0.625 mm, 100 of them for training: the papers divide those 100. No "
        "spacing is stored in the HDF5 files: distances are in voxels, as in the papers. There are no validation "
        "cases.",
        addresses=(
            "https://www.cardiacatlas.org/atriaseg2018-challenge/atria-seg-data/",
            "https://github.com/yulequan/UA-MT (the HDF5 files and lists)",
        ),
        found=(
            "numbers, spacing: the challenge's data page; the part of it that was read states no licence, nor does "
            "UA-MT's README",
            "splits: the lists of UA-MT, counted; its code labels the first 16, MC-Net's scripts 8 and 16, SS-Net's 4 "
            "and 8",
            "doi: torch-em (second-hand); volume and page were not looked up",
        ),
    ),
    "pancreas-ct": PublicSet(
        title="Pancreas in abdominal CT (NIH Pancreas-CT): 82 volumes at first, 80 since 2020",
        classes="1=pancreas",
        modality="ct",
        layouts=(
            Layout("Pancreas_h5/NAME_norm.h5 with train.list and test.list",
                   _listed("{case}_norm.h5", train="train.list", test="test.list")),
            Layout("data/NAME.h5 with train.list and test.list (DTC)",
                   _listed("data/{case}.h5", train="train.list", test="test.list")),
            Layout(
                "NAME.h5 with train_lab.txt, train_unlab.txt and test.txt (CoraNet, BCP)",
                _listed("{case}.h5", train="train_lab.txt train_unlab.txt", test="test.txt"),
                counts={"train": 62, "test": 18},
            ),
        ),
        licence="CC BY 3.0 Unported (TCIA; second-hand)",
        citation="Roth et al., Data From Pancreas-CT (Version 2), TCIA 2016, doi 10.7937/K9/TCIA.2016.tNB1kqBU; Roth "
        "et al., DeepOrgan, MICCAI 2015, LNCS 9349:556-564, doi 10.1007/978-3-319-24553-9_68; Clark et al. (TCIA), "
        "Journal of Digital Imaging 26(6):1045-1057, 2013, doi 10.1007/s10278-013-9622-7",
        splits=first({6: "10 %", 12: "20 %"}, 62),
        counts={"train": 62, "test": 20},
        notes="No spacing is stored: distances are in voxels, as in the papers. There are no validation cases. TCIA "
        "took cases 25 and 70 out in 2020: they are the scan of case 2, cropped differently. The lists with 20 test "
        "cases still name all three, case 25 for testing, 2 and 70 for training (70 is among the first 12): one test "
        "scan is a training scan. BCP's lists leave 25 and 70 out and have 18 test cases (12 labelled, 50 "
        "unlabelled); they are other cases, so numbers of the two are not to be compared. A split of your own "
        "should leave 25 and 70 out.",
        addresses=("https://www.cancerimagingarchive.net/collection/pancreas-ct/",),
        found=(
            "licence: the record of the data's doi, in a bibliography (second-hand); an older version of TCIA's page "
            "on data usage gives it to most of its collections",
            "citation: several repositories alike (second-hand); TCIA's page on data usage asks for Clark et al.",
            "cases 25 and 70: openmedlab's list of data sets, torch-em, an issue of MC-Net (second-hand)",
            "splits: the lists that MC-Net and BCP publish, counted; 6 and 12 are those of MC-Net's scripts",
        ),
    ),
    "brats19": PublicSet(
        title="Whole glioma in 335 FLAIR volumes of the BraTS 2019 training set",
        classes="1=whole tumour",
        modality="mri",
        layouts=(
            Layout(
                "data/NAME.h5 with train.txt, val.txt and test.txt (SSL4MIS)",
                _listed("data/{case}.h5", train="train.txt", validation="val.txt", test="test.txt"),
                mask_threshold=0.5,
            ),
            Layout(
                "the original NIfTI, NAME/NAME_flair.nii and NAME_seg.nii, with the same lists",
                tuple(
                    Part(split, "{case}/{case}_flair.nii*", "{case}/{case}_seg.nii*", (names,))
                    for split, names in (("train", "train.txt"), ("validation", "val.txt"), ("test", "test.txt"))
                ),
                mask_threshold=0.5,
            ),
            pairs("the original NIfTI without lists", "{case}/{case}_flair.nii*", "{case}/{case}_seg.nii*",
                  mask_threshold=0.5),
        ),
        licence="terms of the challenge, on registration at CBICA (said of 2020; 2019's were not found)",
        citation="Menze et al., IEEE TMI 34(10):1993-2024, 2015, doi 10.1109/TMI.2014.2377694; Bakas et al., "
        "Scientific Data 4:170117, 2017, doi 10.1038/sdata.2017.117; Bakas et al., arXiv:1811.02629; data: doi "
        "10.7937/K9/TCIA.2017.KLXWJJ1Q and 10.7937/K9/TCIA.2017.GJQ7R0EF; split: SSL4MIS",
        splits=first({25: "10 %", 50: "20 %"}, 250),
        counts={"train": 250, "validation": 25, "test": 60},
        notes="All tumour labels are one class and FLAIR is the only channel, as in the papers. The HDF5 files store "
        "no spacing.",
        addresses=(
            "https://www.med.upenn.edu/cbica/brats2019/data.html",
            "https://github.com/HiLab-git/SSL4MIS/tree/master/data/BraTS2019 (the lists)",
        ),
        found=(
            "registration: the data page of BraTS 2020, which followed; that of 2019 was not found",
            "citation: several repositories that quote the challenge alike (second-hand)",
            "splits: the lists of SSL4MIS, counted (250, 25 and 60); its README says FLAIR and whole tumour",
        ),
    ),
    "acdc": PublicSet(
        title="Right ventricle, myocardium and left ventricle in cine MRI (ACDC)",
        classes="1=right ventricle,2=myocardium,3=left ventricle",
        modality="mri",
        layouts=(
            Layout(
                "slices and volumes as NAME.h5, with train_slices.list, val.list and test.list (SSL4MIS)",
                _listed("{case}.h5", _ACDC_SLICE, train="train_slices.list")
                + _listed("{case}.h5", _ACDC_FRAME, validation="val.list", test="test.list"),
            ),
            Layout(
                "ACDC_training_slices/NAME.h5, and ACDC_testing_volumes/NAME.h5 where it is there (WSL4MIS)",
                (
                    Part("train", "ACDC_training_slices/{case}.h5#image", "ACDC_training_slices/{case}.h5#label",
                         where=_ACDC_SLICE),
                    Part("test", "ACDC_testing_volumes/{case}.h5#image", "ACDC_testing_volumes/{case}.h5#label",
                         where=_ACDC_FRAME, optional=True),
                ),
                counts={"test": 100},
            ),
            Layout(
                "the original NIfTI, training/patientNNN and testing/patientNNN",
                (
                    Part("train", "training/{subject}/{case}.nii.gz", "training/{subject}/{case}_gt.nii.gz",
                         where=_ACDC_FRAME),
                    Part("test", "testing/{subject}/{case}.nii.gz", "testing/{subject}/{case}_gt.nii.gz",
                         where=_ACDC_FRAME, optional=True),
                ),
            ),
        ),
        licence="CC BY-NC-SA 4.0 (second-hand)",
        citation="Bernard et al., IEEE TMI 37(11):2514-2525, 2018, doi 10.1109/TMI.2018.2837502; split: SSL4MIS",
        splits=first({3: "5 %, 68 slices", 7: "10 %, 136 slices", 14: "20 %, 256 slices"}, 70),
        counts={"validation": 20, "test": 40},
        notes="Trained on slices (1,312 of 70 patients); validation and test volumes are predicted slice by slice: two "
        "frames of each of 10 and 20 patients. The splits belong to the HDF5 layout, whose lists have their own frame "
        "numbers. They divide the challenge's 100 training patients. Its 50 test patients, whose masks are public too, "
        "are not in them.",
        addresses=(
            "https://humanheart-project.creatis.insa-lyon.fr/database/#collection/637218c173e9f0047faa00fb",
            "https://github.com/HiLab-git/SSL4MIS/tree/master/data/ACDC (the lists)",
        ),
        found=(
            "licence: a card on Hugging Face (YongchengYAO/ACDC) that calls it the official one; "
            "MANDATORY_CITATION.md in the makers' archive was not seen",
            "citation, 100 and 50 patients: openmedlab's list of data sets (second-hand)",
            "splits: the lists of SSL4MIS, counted; 3, 7 and 14 patients are the first 68, 136 and 256 slices",
        ),
    ),
}  # fmt: skip
