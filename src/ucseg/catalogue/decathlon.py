"""The ten tasks of the Medical Segmentation Decathlon: one layout, and each task has its own names of files."""

from __future__ import annotations

from ucseg.catalogue.layout import Download, Layout, PublicSet, pairs

_BUCKET = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_UNCOUNTED = (
    "number: not stated, since that of the challenge's page differs from dataset.json in two tasks (hippocampus, "
    "pancreas) and dataset.json of this one was not found"
)


def _task(
    folder: str, name: str, what: str, classes: str, modality: str, md5: str, train: int | None, channels: str = ""
) -> PublicSet:
    """A task: its folder, and what its files are called before their number."""
    image = "{case}.nii.gz" + ("#channels" if channels else "")

    def of(images: str, labels: str) -> Layout:
        words = f"{images}/{name}_NNN.nii.gz and {labels}/{name}_NNN.nii.gz"
        return pairs(words, f"{images}/{image}", f"{labels}/{{case}}.nii.gz", case=rf"{name}_\d+")

    fourth = f"Images are 4D: the fourth axis holds the channels {channels}. " if channels else ""
    return PublicSet(
        title=f"{what} in {modality.upper()} (Decathlon {folder})",
        classes=classes,
        modality=modality,
        layouts=(of("imagesTr", "labelsTr"), of("images", "labels")),
        licence="CC BY-SA 4.0",
        citation="Antonelli et al., Nature Communications 13:4128, 2022, doi 10.1038/s41467-022-30695-9; Simpson et "
        "al., arXiv:1902.09063",
        counts={} if train is None else {"": train},
        downloads=(Download(f"{_BUCKET}/{folder}.tar", f"md5:{md5}"),),
        notes=f"{fourth}The test images (imagesTs) have no masks and are left out.",
        addresses=("http://medicaldecathlon.com/",),
        found=(
            "licence, names of files: dataset.json of most tasks, as nnU-Net's documentation and others quote it "
            "(second-hand)",
            "citation: repositories (second-hand)",
            _UNCOUNTED if train is None else "number: dataset.json or the challenge's page, as quoted (second-hand)",
        ),
    )


DECATHLON = {
    "msd-brain-tumour": _task("Task01_BrainTumour", "BRATS", "Gliomas",
                              "1=edema,2=non-enhancing tumour,3=enhancing tumour", "mri",
                              "240a19d752f0d9e9101544901065d872", 484, "FLAIR, T1w, T1gd and T2w"),
    "msd-heart": _task("Task02_Heart", "la", "Left atrium", "1=left atrium",
                       "mri", "06ee59366e1e5124267b774dbd654057", 20),
    "msd-liver": _task("Task03_Liver", "liver", "Liver and its tumours", "1=liver,2=cancer",
                       "ct", "a90ec6c4aa7f6a3d087205e23d4e6397", 131),
    "msd-hippocampus": _task("Task04_Hippocampus", "hippocampus", "Hippocampus", "1=anterior,2=posterior",
                             "mri", "9d24dba78a72977dbd1d2e110310f31b", 260),
    "msd-prostate": _task("Task05_Prostate", "prostate", "Zones of the prostate", "1=peripheral zone,2=transition zone",
                          "mri", "35138f08b1efaef89d7424d2bcc928db", 32, "T2 and ADC"),
    "msd-lung": _task("Task06_Lung", "lung", "Lung cancer", "1=cancer",
                      "ct", "8afd997733c7fc0432f71255ba4e52dc", None),
    "msd-pancreas": _task("Task07_Pancreas", "pancreas", "Pancreas and its tumours", "1=pancreas,2=cancer",
                          "ct", "4f7080cfca169fa8066d17ce6eb061e4", 281),
    "msd-hepatic-vessel": _task("Task08_HepaticVessel", "hepaticvessel", "Hepatic vessels and tumours",
                                "1=vessel,2=tumour", "ct", "641d79e80ec66453921d997fbf12a29c", 303),
    "msd-spleen": _task("Task09_Spleen", "spleen", "Spleen", "1=spleen",
                        "ct", "410d4a301da4e5b2f6f86ec3ddba524e", 41),
    "msd-colon": _task("Task10_Colon", "colon", "Colon cancer", "1=cancer",
                       "ct", "bad7a188931dc2f6acf72b08eb6202d0", None),
}  # fmt: skip
"""Checksums are those of MONAI's DecathlonDataset."""
