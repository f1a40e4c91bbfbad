"""HDF5 and NumPy files: names, spacing, colours, and the label beside its image."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from refusals import refused
from ucseg.cli.init import init
from ucseg.dataset.manifest import load_dataset
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header, read_mask, read_scan
from ucseg.scans.writing import mask_ending, write_like

IMAGE = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
LABEL = (IMAGE > 0.5).astype(np.uint8)


def save_h5(path, spacing=None, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if spacing is not None:
            file.attrs["spacing"] = spacing
    return path


@pytest.mark.parametrize("spacing", [None, (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_image_and_label_of_one_file(tmp_path, ending, spacing):
    path = tmp_path / f"a{ending}"
    if ending == ".h5":
        save_h5(path, spacing, image=IMAGE, label=LABEL)
    else:
        more = {} if spacing is None else {"spacing": spacing}
        np.savez(path, image=IMAGE, label=LABEL, **more)
    scan, mask = read_scan(path), read_mask(path)
    assert np.array_equal(scan.array[0], IMAGE)
    assert np.array_equal(mask.array[0], LABEL)
    assert np.array_equal(read_scan(path.with_name(path.name + "#label")).array[0], LABEL)
    assert scan.geometry.unit == ("px" if spacing is None else "mm")
    assert mask.geometry.spacing == scan.geometry.spacing == (spacing or (1, 1, 1))
    assert read_header(path)[0] == IMAGE.shape
    written = tmp_path / f"mask{mask_ending(Address.of(path))}"
    write_like(LABEL, scan, written)
    assert np.array_equal(read_mask(written).array[0], LABEL)
    assert np.array_equal(read_scan(written).geometry.affine, scan.geometry.affine)
    with refused("array-missing", naming=[path.name, "other", "image", "label"]):
        read_scan(path.with_name(path.name + "#other"))


def test_what_is_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    np.save(tmp_path / "line.npy", np.zeros(5))
    np.save(tmp_path / "complex.npy", np.zeros((5, 5), complex))
    np.save(tmp_path / "time.npy", np.zeros((5, 5, 5, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "time.npy").read_bytes()[:900])
    (tmp_path / "text.h5").write_text("no array " * 99)
    np.savez(tmp_path / "packed.npz", image=IMAGE)
    (tmp_path / "packed.npz").rename(tmp_path / "packed.npy")
    save_h5(tmp_path / "many.h5", a=IMAGE, b=IMAGE)
    save_h5(tmp_path / "none.h5", a=np.zeros(4))
    save_h5(tmp_path / "spacing.h5", (1.0, -1.0, 1.0), image=IMAGE)
    for name, kind, *values in (
        ("objects.npy", "scan-values"), ("line.npy", "array-axes", "1D"), ("complex.npy", "scan-values", "complex"),
        ("time.npy", "scan-axes", "4D"), ("cut.npy", "scan-damaged"), ("text.h5", "scan-damaged"),
        ("many.h5", "array-unclear", "many.h5#a"), ("none.h5", "array-none"), ("spacing.h5", "array-spacing", -1.0),
        ("packed.npy", "scan-content", ".npz"),
    ):  # fmt: skip
        for reader in (read_scan, read_header):
            with refused(kind, naming=[name, *values]):
                reader(tmp_path / name)


def test_colour_and_one_slice(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    np.save(tmp_path / "colour.npy", colour)
    assert np.array_equal(read_scan(tmp_path / "colour.npy").array, colour.transpose(2, 0, 1))
    assert read_header(tmp_path / "colour.npy")[2] == 3
    np.save(tmp_path / "slice.npy", IMAGE[:1].astype(np.float16))
    assert read_scan(tmp_path / "slice.npy").array.shape == (1, 7, 8)


def test_the_literatures_layout_becomes_a_dataset_and_hidden_labels_stay_hidden(tmp_path):
    for i in range(10):
        shift = np.roll(IMAGE, i, 0)
        save_h5(tmp_path / "LA" / f"case{i}" / "mri_norm2.h5", image=shift, label=(shift > 0.5).astype(np.uint8))
    save_h5(tmp_path / "LA" / "more.h5", image=IMAGE * 2)
    dataset = init(tmp_path / "LA", out=tmp_path / "data", labelled="2")
    assert (dataset.config.dims, len(dataset.cases), len(dataset.labelled)) == (3, 11, 2)
    for case in load_dataset(tmp_path / "data").training:
        assert case.mask is None or str(case.mask) == str(case.image).replace("#image", "#label")
    assert "#label" in (tmp_path / "data" / "hidden.csv").read_text()
