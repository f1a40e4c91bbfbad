"""The methods. Adding one: its file, one line of METHODS, one page in docs/methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ucseg.config import Strict, build, did_you_mean
from ucseg.errors import UserError
from ucseg.methods.ad_mt import ADMT
from ucseg.methods.base import Method
from ucseg.methods.bcp import BCP
from ucseg.methods.cct import CCT
from ucseg.methods.contract import check_views
from ucseg.methods.cps import CPS
from ucseg.methods.cross_teaching import CrossTeaching
from ucseg.methods.deep_co_training import DeepCoTraining
from ucseg.methods.dycon import DyCON
from ucseg.methods.entropy_min import EntropyMin
from ucseg.methods.fixmatch import FixMatch
from ucseg.methods.ict import ICT
from ucseg.methods.mc_net import MCNet
from ucseg.methods.mean_teacher import MeanTeacher
from ucseg.methods.r_drop import RDrop
from ucseg.methods.ss_net import SSNet
from ucseg.methods.supervised import Supervised
from ucseg.methods.ua_mt import UAMT
from ucseg.methods.uc_seg import UCSeg
from ucseg.methods.unimatch import UniMatch
from ucseg.methods.urpc import URPC
from ucseg.types import Problem

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "entropy_min": EntropyMin,
    "mean_teacher": MeanTeacher,
    "ua_mt": UAMT,
    "ict": ICT,
    "cct": CCT,
    "cps": CPS,
    "r_drop": RDrop,
    "ss_net": SSNet,
    "cross_teaching": CrossTeaching,
    "deep_co_training": DeepCoTraining,
    "urpc": URPC,
    "mc_net": MCNet,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "bcp": BCP,
    "ad_mt": ADMT,
    "dycon": DyCON,
    "uc_seg": UCSeg,
}


def build_method(name: str, settings: Mapping[str, Any], problem: Problem) -> Method:
    """The method called `name`: these settings, and its defaults for the others.

    Raises:
        UserError: as `settings_of`, or the problem does not allow a setting.
    """
    config = settings_of(name, settings)
    method = METHODS[name](config, problem)
    check_views(method)
    return method


def settings_of(name: str, settings: Mapping[str, Any]) -> Strict:
    """These settings, and the defaults of the method called `name` for the others.

    Raises:
        UserError: unknown method (method-unknown) or setting; the message names the nearest known one.
    """
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) or f"known methods: {', '.join(METHODS)}."
        raise UserError("method-unknown", f"there is no method '{name}'; {hint}")
    return build(METHODS[name].Config, settings, f"method {name}")
