"""LA, Pancreas-CT, BraTS19 and ACDC as the semi-supervised papers share them: HDF5 files and lists of names.

The published splits take the first n names of the list of training cases. Folders and lists are those of the public
code of UA-MT (LA), DTC and CoraNet (Pancreas) and SSL4MIS (BraTS19, ACDC).
"""

from __future__ import annotations

from ucseg.catalogue.layout import Layout, Part, PublicSet, first

_ACDC_FRAME = {"case": r"patient\d+_frame\d+"}


def _pairs(split: str, file: str, *names: str, **more: str) -> Part:
    return Part(split, f"{file}#image", f"{file}#label", names, more)


HDF5_VOLUMES = {
    "la": PublicSet(
        title="Left atrium in 100 LGE-MRI volumes of the 2018 Atrial Segmentation Challenge",
        classes="1=left atrium",
        modality="mri",
        layouts=(
            Layout(
                "NAME/mri_norm2.h5 with train.list and test.list",
                (
                    _pairs("train", "{case}/mri_norm2.h5", "train.list"),
                    _pairs("test", "{case}/mri_norm2.h5", "test.list"),
                ),
            ),
        ),
        licence="terms of the challenge (cardiacatlas.org); none is stated with the HDF5 files",
        citation="Xiong et al., Medical Image Analysis 67:101832, 2021; split: Yu et al. (UA-MT), MICCAI 2019",
        splits=first({4: "5 %", 8: "10 %", 16: "20 %, as in UA-MT"}, 80),
        counts={"train": 80, "test": 20},
        notes="No spacing is stored: distances are in voxels, as in the papers. There are no validation cases.",
    ),
    "pancreas-ct": PublicSet(
        title="Pancreas in 82 abdominal CT volumes (NIH Pancreas-CT)",
        classes="1=pancreas",
        modality="ct",
        layouts=(
            Layout(
                "Pancreas_h5/NAME_norm.h5 with train.list and test.list",
                (
                    _pairs("train", "{case}_norm.h5", "train.list"),
                    _pairs("test", "{case}_norm.h5", "test.list"),
                ),
            ),
            Layout(
                "data/NAME.h5 with train.list and test.list (DTC)",
                (_pairs("train", "data/{case}.h5", "train.list"), _pairs("test", "data/{case}.h5", "test.list")),
            ),
            Layout(
                "NAME.h5 with train_lab.txt, train_unlab.txt and test.txt (CoraNet, BCP)",
                (
                    _pairs("train", "{case}.h5", "train_lab.txt", "train_unlab.txt"),
                    _pairs("test", "{case}.h5", "test.txt"),
                ),
            ),
        ),
        licence="CC BY 3.0 (TCIA)",
        citation="Roth et al., Data from Pancreas-CT, TCIA 2016, doi 10.7937/K9/TCIA.2016.tNB1kqBU; "
        "Roth et al., MICCAI 2015",
        splits=first({6: "10 %", 12: "20 %"}, 62),
        counts={"train": 62, "test": 20},
        notes="No spacing is stored: distances are in voxels, as in the papers. There are no validation cases.",
    ),
    "brats19": PublicSet(
        title="Whole glioma in 335 FLAIR volumes of the BraTS 2019 training set",
        classes="1=whole tumour",
        modality="mri",
        layouts=(
            Layout(
                "data/NAME.h5 with train.txt, val.txt and test.txt (SSL4MIS)",
                (
                    _pairs("train", "data/{case}.h5", "train.txt"),
                    _pairs("validation", "data/{case}.h5", "val.txt"),
                    _pairs("test", "data/{case}.h5", "test.txt"),
                ),
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
            Layout(
                "the original NIfTI without lists",
                (Part("", "{case}/{case}_flair.nii*", "{case}/{case}_seg.nii*"),),
                mask_threshold=0.5,
            ),
        ),
        licence="terms of the challenge (registration at CBICA)",
        citation="Menze et al., IEEE TMI 34(10):1993-2024, 2015; Bakas et al., Scientific Data 4:170117, 2017; "
        "Bakas et al., arXiv:1811.02629; split: SSL4MIS",
        splits=first({25: "10 %", 50: "20 %"}, 250),
        counts={"train": 250, "validation": 25, "test": 60},
        notes="All tumour labels are one class and FLAIR is the only channel, as in the papers. The HDF5 files store "
        "no spacing.",
    ),
    "acdc": PublicSet(
        title="Right ventricle, myocardium and left ventricle in cine MRI (ACDC)",
        classes="1=right ventricle,2=myocardium,3=left ventricle",
        modality="mri",
        layouts=(
            Layout(
                "data/slices/NAME.h5 and data/NAME.h5 with train_slices.list, val.list and test.list (SSL4MIS)",
                (
                    _pairs("train", "slices/{case}.h5", "train_slices.list", case=r"patient\d+_frame\d+_slice_\d+"),
                    _pairs("validation", "data/{case}.h5", "val.list", **_ACDC_FRAME),
                    _pairs("test", "data/{case}.h5", "test.list", **_ACDC_FRAME),
                ),
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
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., IEEE TMI 37(11):2514-2525, 2018, doi 10.1109/TMI.2018.2837502; split: SSL4MIS",
        splits=first({3: "5 %, 68 slices", 7: "10 %, 136 slices", 14: "20 %"}, 70),
        counts={"validation": 20, "test": 40},
        notes="Trained on slices; validation and test volumes are predicted slice by slice. The splits belong to the "
        "HDF5 layout: its lists number the frames anew.",
    ),
}  # fmt: skip
