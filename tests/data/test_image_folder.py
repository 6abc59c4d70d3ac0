"""A folder of images: read as Pillow shows them, scaled by the training part, or refused with what to do."""

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.encode import encode
from reglab.data.image_folder import image_folder
from reglab.data.source import Source

GENERATOR = np.random.default_rng(0)


def picture(path, width=12, height=8, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    image = Image.fromarray(GENERATOR.integers(0, 256, shape, dtype=np.uint8), mode)
    image.save(path)
    return image


@pytest.fixture
def photos(tmp_path):
    for name in ("ant", "bee", "cat"):
        for number in range(10):
            picture(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_every_image_is_there_once_with_its_class(photos):
    data = load({"name": "image_folder", "path": str(photos), "size": 8, "standardize": False})
    assert (data.name, data.task, data.outputs, data.input_shape) == ("photos", "classification", 3, (3, 8, 8))
    assert data.target_names == ("ant", "bee", "cat")
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 6)
    for part in (data.train, data.val, data.test):
        assert part.inputs.dtype == torch.float32
        for inputs, target, row in zip(part.inputs, part.targets, part.index, strict=True):
            name = ("ant", "bee", "cat")[int(row) // 10]
            # The square in the middle.
            shown = np.asarray(Image.open(photos / name / f"{int(row) % 10}.png"))[:, 2:10]
            assert data.target_names[target] == name
            np.testing.assert_array_equal(inputs.permute(1, 2, 0), shown)


def test_pixels_are_scaled_by_the_training_images():
    pixels = GENERATOR.integers(0, 200, (50, 30), dtype=np.uint8)
    train = np.arange(0, 50, 2)
    names = tuple(f"x{number}" for number in range(30))
    source = Source("classification", pixels, names, np.zeros(50, int), ("a", "b"), shape=(1, 5, 6), homogeneous=True)
    encoded = encode(source, train, standardize=True)
    real = pixels.astype(np.float64)
    np.testing.assert_allclose(encoded.inputs, (real - real[train].mean()) / real[train].std(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoded.fitted.scale, real[train].std())
    flat = Source("classification", np.full_like(pixels, 7), names, np.zeros(50, int), ("a", "b"), homogeneous=True)
    assert (encode(flat, train, standardize=True).inputs == 0).all()


def test_kinds_modes_depths_and_orientation_of_images(tmp_path):
    picture(tmp_path / "a" / "old" / "1.JPG")
    picture(tmp_path / "a" / "2.jpeg", mode="L")
    picture(tmp_path / "b" / "1.png", mode="RGBA")
    upright = picture(tmp_path / "b" / "2.png", 8, 8, "L")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    turned.save(tmp_path / "b" / "3.png", exif=exif)
    (tmp_path / "b" / "notes.txt").write_text("not an image")
    (tmp_path / "b" / "._4.png").write_bytes(b"what an archive leaves behind")
    (tmp_path / ".hidden").mkdir()
    source = image_folder(path=str(tmp_path), size=8, channels=1)
    assert source.task == "binary"
    assert source.numeric.shape == (5, 64)
    assert source.targets.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(source.numeric[3], np.asarray(upright).reshape(-1))
    np.testing.assert_array_equal(source.numeric[4], source.numeric[3])


def test_what_cannot_be_read_is_named(tmp_path, photos):
    with pytest.raises(UserError, match=r"photo is no folder; did you mean 'photos'"):
        image_folder(path=str(tmp_path / "photo"))
    with pytest.raises(UserError, match=r"ant has no subfolders: .*\.png or \.jpg"):
        image_folder(path=str(photos / "ant"))
    with pytest.raises(UserError, match=r"data\.channels=4 must be 3"):
        image_folder(path=str(photos), channels=4)
    with pytest.raises(UserError, match=r"data\.size must be a whole number >= 1"):
        image_folder(path=str(photos), size=0)
    (photos / "bee" / "3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bee/3\.png cannot be read .*or remove it"):
        image_folder(path=str(photos))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(photos / "bee" / "3.png")
    with pytest.raises(UserError, match="more than 8 bits a channel"):
        image_folder(path=str(photos))


def test_parts_and_empty_classes_are_told_apart_from_classes(tmp_path, photos):
    photos.rename(tmp_path / "train")
    with pytest.raises(UserError, match=r"holds parts, not classes \(train\): name one of them, .*/train;"):
        image_folder(path=str(tmp_path))
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(UserError, match=r"the class .*dog holds no image"):
        image_folder(path=str(tmp_path / "train"))


def test_images_that_would_fill_the_memory_are_refused_before_one_is_read(monkeypatch, photos):
    free = 30 * 3 * 64 * 64 * 9 // 4  # 9 bytes a pixel, and a quarter of that is there

    class Memory:
        available = free

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(UserError, match=r"30 images of 3 x 64 x 64 need 0\.0 GB .*\(data\.size=32 would just fit\)"):
        image_folder(path=str(photos), stream=False)
    assert image_folder(path=str(photos)).stream  # and by themselves they are streamed, none of them read yet
    monkeypatch.undo()
    assert not image_folder(path=str(photos)).stream
    assert len(image_folder(path=str(photos), size=32).numeric) == 30
