#!/bin/sh
# PyMIC 0.6.2: the teacher of its mean teacher and UA-MT has only zeros as weights after the first step.
#
# Expected: after each step, teacher = alpha * teacher + (1 - alpha) * student.
# What happens: `ema_param.data.mul_(alpha).add(param.data, alpha = 1.0 - alpha)` puts the sum into a new tensor, which
#   is dropped. alpha is 0 up to the first validation, so the first step multiplies the teacher by 0. It stays at 0.
# Why it matters: this teacher gives every class the same probability for every image.
#   UA-MT then finds no certain voxel while its ramp rises, by default the whole run. Its loss on unlabelled images is 0,
#   so it is plain supervised training.
#   Mean teacher pulls unlabelled images towards equal probabilities. Neither learns from a teacher, and no error says so.
# Source: https://github.com/HiLab-git/PyMIC, pymic/net_run/semi_sup/ssl_mt.py and ssl_uamt.py, end of `training`.
#
# Exit 0: as described. Anything else: the behaviour changed, or the packages cannot be installed.
# Needs Python 3.11 or newer and pip. Trains two small networks on a CPU for six steps each.
# Takes some minutes, most of them for the installation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet PYMIC==0.6.2 torch==2.13.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1 \
    simpleitk==2.5.7 tensorboardX==2.6.5
cd "$folder"
OMP_NUM_THREADS=1 environment/bin/python - 2>errors.txt <<'END' || { cat errors.txt >&2; exit 1; }
"""Train PyMIC's two agents on images of bright squares, and look at the teacher."""

import argparse
import contextlib
import importlib.metadata
import os
import sys
from types import ModuleType

import numpy as np
import SimpleITK
import torch


def stand_in(name, **parts):
    module = ModuleType(name)
    vars(module).update(parts)
    sys.modules[name] = module


class Compose:
    """As in torchvision, of which PyMIC's segmentation uses nothing else."""

    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, sample):
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class TorchOnCPU:
    """torch, whose every device is the CPU: PyMIC names CUDA devices alone."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def device(self, _name):
        return torch.device("cpu")


# Not used here: torchvision, and modules that import packages that PyMIC does not ask for.
stand_in("torchvision.transforms", Compose=Compose)
stand_in("torchvision", transforms=sys.modules["torchvision.transforms"])
stand_in("imops", crop_to_box=None)
for name, part in {"transunet": "TransUNet", "swinunet": "SwinUNet", "unetr": "UNETR", "unetr_pp": "UNETR_PP"}.items():
    stand_in(f"pymic.net.transformer.{name}", **{part: None})

from pymic.net_run import agent_seg
from pymic.net_run.semi_sup import SSLMethodDict
from pymic.util.parse_config import parse_config, synchronize_config

agent_seg.torch = TorchOnCPU()
print("PyMIC", importlib.metadata.version("PYMIC"), "torch", torch.__version__)

random = np.random.default_rng(0)
for number in range(8):
    mask = np.zeros((1, 32, 32), np.uint8)
    row, column = random.integers(4, 16, 2)
    mask[:, row : row + 12, column : column + 12] = 1
    image = mask + random.normal(0, 0.2, mask.shape)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.astype(np.float32)), f"image{number}.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask), f"mask{number}.nii.gz")
labelled = "image,label\n" + "".join(f"image{number}.nii.gz,mask{number}.nii.gz\n" for number in range(4))
open("labelled.csv", "w").write(labelled)
open("unlabelled.csv", "w").write("image\n" + "".join(f"image{number}.nii.gz\n" for number in range(4, 8)))

CONFIG = """
[dataset]
task_type = seg
supervise_type = semi_sup
tensor_type = float
train_dir = FOLDER
train_csv = labelled.csv
train_csv_unlab = unlabelled.csv
valid_csv = labelled.csv
train_batch_size = 2
train_batch_size_unlab = 2
num_worker = 0
train_transform = [NormalizeWithMeanStd, LabelToProbability]
train_transform_unlab = [NormalizeWithMeanStd]
valid_transform = [NormalizeWithMeanStd, LabelToProbability]
[network]
net_type = UNet
dimension = 2
in_chns = 1
class_num = 2
feature_chns = [4, 8, 16, 32, 64]
multiscale_pred = False
[training]
gpus = [0]
loss_type = [CrossEntropyLoss, DiceLoss]
loss_weight = [1.0, 1.0]
optimizer = SGD
learning_rate = 0.01
momentum = 0.9
weight_decay = 0.00001
lr_scheduler = PolynomialLR
lr_power = 1.0
iter_max = 6
iter_valid = 2
ckpt_dir = FOLDER/run
deterministic = True
random_seed = 0
[semi_supervised_learning]
method_name = METHOD
[testing]
gpus = [0]
"""
as_described = True
for method, name in {"MeanTeacher": "mean teacher", "UAMT": "UA-MT"}.items():
    open("config.cfg", "w").write(CONFIG.replace("METHOD", method).replace("FOLDER", os.getcwd()))
    with contextlib.redirect_stdout(sys.stderr):  # its configuration, in many lines
        config = synchronize_config(parse_config(argparse.Namespace(cfg="config.cfg")))
        agent = SSLMethodDict[method](config, "train")
    consistency = []
    train_two_steps = agent.training

    def training(train_two_steps=train_two_steps, consistency=consistency):
        found = train_two_steps()
        consistency.append(found["loss_reg"])
        return found

    agent.training = training
    with contextlib.redirect_stdout(sys.stderr):
        agent.run()
    teacher = max(float(parameter.abs().max()) for parameter in agent.net_ema.parameters())
    student = max(float(parameter.abs().max()) for parameter in agent.net.parameters())
    image = torch.from_numpy(random.normal(0, 1, (1, 1, 1, 32, 32)).astype(np.float32))
    with torch.no_grad():
        probability = torch.softmax(agent.net_ema(image), dim=1)
    print(f"{name}: largest weight of the student {student:.3f}, of the teacher {teacher:.3f}")
    print(f"{name}: probabilities of the teacher from {float(probability.min())} to {float(probability.max())}")
    print(f"{name}: loss on unlabelled images, steps 1-2, 3-4, 5-6: {consistency}")
    as_described &= teacher == 0 < student and bool((probability == 0.5).all())
    as_described &= method == "MeanTeacher" or consistency[1:] == [0.0, 0.0]
print("as described" if as_described else "NOT as described")
sys.exit(not as_described)
END
