"""nnU-Net's own planning, training and prediction, within CPU seconds; started by against_nnunet.py.

    NNUNET_PYTHON benchmarks/nnunet_agent.py prepare|train|predict JOB

Runs in the environment of requirements-nnunet.txt. JOB is a JSON file that against_nnunet.py writes. The folders of
nnU-Net, and that nothing runs beside the process, come as nnU-Net's environment variables.

torchvision is not needed. nnU-Net looks for a trainer by its name in all of its modules, and some of them import
torchvision, which may not load beside this torch. Here the trainer is made from its class.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

EPOCH = 250
"""Steps of an epoch of nnU-Net."""


class FittedTrainer(nnUNetTrainer):
    """nnU-Net's default trainer for so many CPU seconds of this process, its loader included.

    Its learning rate falls by nnU-Net's polynomial over the share of the seconds that is spent. It does so at each
    step, because such a run has few epochs. With fold "all" there is no unseen case to validate on, and the last
    weights are used. So it does not validate, and saves no other weights.
    """

    cpu_seconds: float

    def run_training(self) -> None:
        """Take steps until the seconds are spent."""
        begun = time.process_time()
        self.on_train_start()
        self.network.train()
        self.steps = self.spent = 0
        while self.spent < self.cpu_seconds:
            self.lr_scheduler.step(self.num_epochs * self.spent / self.cpu_seconds)
            loss = self.train_step(next(self.dataloader_train))["loss"]
            self.steps += 1
            self.spent = time.process_time() - begun
            if self.steps % 10 == 0:
                self.print_to_log_file(f"step {self.steps}, {self.spent:.0f} CPU seconds, loss {loss:.4f}")
        self.on_train_end()


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """nnUNetv2_plan_and_preprocess; what it planned."""
    number, configuration = job["number"], job["configuration"]
    extract_fingerprints([number], num_processes=1, verbose=False, show_progress_bar=False)
    name = plan_experiments([number])
    preprocess([number], name, [configuration], [1], show_progress_bar=False)
    plan = json.loads((Path(nnUNet_preprocessed) / job["dataset"] / f"{name}.json").read_text())
    chosen = plan["configurations"][configuration]
    return {key: chosen[key] for key in ("patch_size", "batch_size", "spacing", "normalization_schemes")}


def make_trainer(job: dict[str, Any]) -> FittedTrainer:
    """The trainer of a job, as nnUNetv2_train makes it."""
    folder = Path(nnUNet_preprocessed) / job["dataset"]
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    described = json.loads((folder / "dataset.json").read_text())
    plans["continue_training"] = False
    return FittedTrainer(plans, job["configuration"], "all", described, torch.device("cpu"))


def train(job: dict[str, Any]) -> dict[str, Any]:
    """nnUNetv2_train with fold "all"; the seconds and steps it took."""
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - nnU-Net draws from it
    torch.manual_seed(job["seed"])
    trainer = make_trainer(job)
    trainer.cpu_seconds = job["cpu_seconds"]
    trainer.run_training()
    return {"cpu_seconds": round(trainer.spent, 1), "steps": trainer.steps, "epochs": trainer.steps / EPOCH}


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """nnUNetv2_predict with its defaults: mirrored views, windows that overlap by half; the seconds it took."""
    begun = time.process_time()
    trainer = make_trainer(job)
    trainer.initialize()
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    Path(job["masks"]).mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(job["images"], job["masks"], save_probabilities=job["probabilities"])
    mirrored = trainer.inference_allowed_mirroring_axes
    return {"prediction_cpu_seconds": round(time.process_time() - begun, 1), "mirrored_axes": mirrored}


if __name__ == "__main__":
    stage, file = sys.argv[1:]
    job = json.loads(Path(file).read_text())
    torch.set_num_threads(1)
    found = {"prepare": prepare, "train": train, "predict": predict}[stage](job)
    Path(job["found"]).write_text(json.dumps(found))
