"""HDF5 and NumPy files: names, spacing, colours, and the label beside its image."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from refusals import refused
from ucseg.cli.init import init
from ucseg.dataset.manifest import load_dataset
from ucseg.scans import arrays
from ucseg.scans.address import Address
from ucseg.scans.reading import files_of, read_header, read_mask, read_scan
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


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_the_spacing_of_medsam_is_turned(tmp_path, ending):
    """Its arrays run z, y, x, and its spacing x, y, z."""
    path = tmp_path / f"a{ending}"
    named = {"imgs": IMAGE, "gts": LABEL, "spacing": np.array([0.5, 0.75, 3.0])}
    if ending == ".h5":
        with h5py.File(path, "w") as file:
            file.update(named)
    else:
        np.savez(path, **named)
    scan, mask = read_scan(path), read_mask(path)
    assert np.array_equal(scan.array[0], IMAGE)
    assert np.array_equal(mask.array[0], LABEL)
    assert scan.geometry.spacing == mask.geometry.spacing == (3.0, 0.75, 0.5)
    assert arrays.parts(Address.of(path)) == ("imgs", "gts")
    written = tmp_path / f"mask{ending}"
    write_like(LABEL, scan, written)
    assert read_mask(written).geometry.spacing == (3.0, 0.75, 0.5), "ours runs as the array does"
    colour = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "colour.npz", imgs=colour, gts=colour[..., 0])
    assert read_scan(tmp_path / "colour.npz").array.shape == (3, 9, 8)
    assert read_mask(tmp_path / "colour.npz").array.shape == (1, 9, 8)


def test_arrays_under_other_names_and_in_other_files(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["deep/truth"] = LABEL
    virtual = h5py.VirtualLayout(LABEL.shape, LABEL.dtype)
    virtual[...] = h5py.VirtualSource("other.h5", "deep/truth", shape=LABEL.shape)
    links = {
        "soft": h5py.SoftLink("/kept/truth"), "external": h5py.ExternalLink("other.h5", "/deep/truth"),
        "virtual": virtual,
    }  # fmt: skip
    for kind, link in links.items():
        with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
            file["ct"] = IMAGE
            file["image"] = file["ct"]  # a second name
            file["kept/truth"] = LABEL
            file["kept/again"] = h5py.SoftLink("/")  # a circle
            if kind == "virtual":
                file.create_virtual_dataset("label", link)
            else:
                file["label"] = link
        path = tmp_path / f"{kind}.h5"
        assert arrays.parts(Address.of(path)) == ("image", "label")
        assert np.array_equal(read_mask(path).array[0], LABEL)
        elsewhere = kind != "soft"
        assert (tmp_path / "other.h5" in files_of(Address.of(path))) == elsewhere
    (tmp_path / "other.h5").unlink()
    for kind in ("external", "virtual"):
        assert arrays.parts(Address.of(tmp_path / f"{kind}.h5")) == ("image", "label"), "not without a label"
        with refused("array-lost", naming=[f"{kind}.h5", "'label'", "other.h5"]):
            read_mask(tmp_path / f"{kind}.h5")
        assert np.array_equal(read_scan(tmp_path / f"{kind}.h5").array[0], IMAGE)
    with h5py.File(tmp_path / "soft.h5", "a") as file:
        del file["kept/truth"]
    with refused("array-lost", naming=["soft.h5", "'label'", "/kept/truth"]):
        read_mask(tmp_path / "soft.h5")
    with h5py.File(tmp_path / "bytes.h5", "w") as file:
        file["image"] = IMAGE
        file.create_dataset("label", LABEL.shape, np.uint8, external=[("voxels.bin", 0, LABEL.size)])
    with refused("array-lost", naming=["bytes.h5", "voxels.bin"]):
        read_mask(tmp_path / "bytes.h5")


def test_one_array_of_two_names_is_the_only_one(tmp_path):
    path = save_h5(tmp_path / "a.h5", a=IMAGE)
    with h5py.File(path, "a") as file:
        file["b"] = file["a"]
    assert np.array_equal(read_scan(path).array[0], IMAGE)
