"""The literature's data sets by name: what `ucseg datasets` lists and `ucseg import` reads."""

from __future__ import annotations

from ucseg.catalogue.decathlon import DECATHLON
from ucseg.catalogue.dermoscopy import DERMOSCOPY
from ucseg.catalogue.endoscopy import ENDOSCOPY
from ucseg.catalogue.folders import FOLDERS
from ucseg.catalogue.hdf5_volumes import HDF5_VOLUMES
from ucseg.catalogue.layout import PublicSet
from ucseg.catalogue.mri import MRI
from ucseg.catalogue.ultrasound import ULTRASOUND
from ucseg.config import did_you_mean
from ucseg.errors import UserError

DATASETS: dict[str, PublicSet] = {
    **HDF5_VOLUMES,
    **ENDOSCOPY,
    **DERMOSCOPY,
    **ULTRASOUND,
    **MRI,
    **DECATHLON,
    **FOLDERS,
}


def named(name: str) -> PublicSet:
    """The data set of this name; if there is none, a UserError suggests the nearest name."""
    if name in DATASETS:
        return DATASETS[name]
    hint = did_you_mean(name.lower().replace("_", "-"), DATASETS) or "`ucseg datasets` lists them."
    raise UserError("dataset-unknown", f"There is no data set '{name}'; {hint}")
