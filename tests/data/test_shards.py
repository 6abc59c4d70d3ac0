"""Shards of samples in tar files: read by number, with the bits of memory, or refused with their names."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reglab.core.errors import UserError
from reglab.data import DataSet, load
from reglab.inference.predictor import Predictor
from reglab.inference.row_files import pieces

ROWS = 90
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 255, (ROWS, 9, 12, 3), dtype=np.uint8)
ARRAYS = GENERATOR.normal(2, 3, (ROWS, 2, 5)).astype(np.float32)
CLASSES = GENERATOR.integers(0, 3, ROWS)


def encoded(values: Any) -> bytes:
    file = io.BytesIO()
    if values.dtype == np.uint8:
        Image.fromarray(values).save(file, "png")
    else:
        np.save(file, values)
    return file.getvalue()


def sample(number: int) -> dict[str, bytes]:
    return {
        "png": encoded(PIXELS[number]),
        "signal.npy": encoded(ARRAYS[number]),
        "ids.npy": encoded((ARRAYS[number, 0].clip(0) * 3).astype(np.int64)),
        "seg.png": encoded(PIXELS[number, :, :, 0] % 3),
        "cls": str(CLASSES[number]).encode(),
        "json": json.dumps({"value": float(number), "name": "abc"[CLASSES[number]]}).encode(),
        "txt": b" abc\n"[CLASSES[number] + 1 : CLASSES[number] + 2] + b"\n",
    }


def write(path: Path, samples: dict[str, dict[str, bytes]], mode: Any = "w") -> None:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for key, files in samples.items():
            for ending, content in files.items():
                info = tarfile.TarInfo(f"images/{key}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shards")
    for shard, rows in enumerate(np.array_split(np.arange(ROWS), 3)):
        write(made / f"train-{shard}.tar", {f"{row:06}": sample(row) for row in rows})
    return made


def loaded(path: Path, **options: Any) -> DataSet:
    return load({"name": "shards", "path": str(path), "workers": 0, "size": 6, "val_size": 20} | options)


def fitted(pixels: Any) -> Any:
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (6, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_images_are_decoded_and_standardized_by_the_training_rows(folder, stream):
    given, real = loaded(folder, stream=stream, inputs="png"), np.stack([fitted(each) for each in PIXELS]) * 1.0
    train = real[given.train.index]
    assert (given.input_shape, given.task, given.streamed) == ((3, 6, 6), "classification", stream)
    for part in (given.train, given.val, given.test):
        np.testing.assert_allclose(
            part.inputs[:], (real[part.index] - train.mean()) / train.std(), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(part.targets, CLASSES[part.index])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"inputs": "png", "channels": 1, "targets": "txt"},
        {"inputs": "signal.npy", "targets": "json.value"},
        {"inputs": "ids.npy", "targets": "json.name", "tokens": True},
        {"inputs": "png", "targets": "seg.png", "task": "segmentation"},
    ],
    ids=lambda options: f"{options['inputs']}-{options['targets']}",
)
def test_streamed_rows_are_those_in_memory_bit_for_bit(folder, options, workers):
    memory, streamed = (
        loaded(folder, stream=False, **options),
        loaded(folder, stream=True, **options | {"workers": workers}),
    )
    assert memory.digest == streamed.digest
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 10)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


def test_images_of_a_folder_are_prepared_as_those_of_the_shards(folder, tmp_path):
    given = loaded(folder, inputs="png")
    rows = given.test.index.tolist()
    for row in rows:
        (tmp_path / f"{row:06}.png").write_bytes(encoded(PIXELS[row]))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 3))
    predictor = Predictor(model, given.preprocessing)
    (piece,) = pieces(tmp_path, predictor)
    assert piece.named["file"] == [f"{row:06}.png" for row in rows]
    torch.testing.assert_close(predictor.inputs(piece.rows), given.test.tensor)


def test_targets_are_numbers_texts_keys_and_pixels(folder):
    value = loaded(folder / "train-*.tar", inputs="signal.npy", targets="json.value", standardize=False)
    np.testing.assert_array_equal(value.val.tensor, ARRAYS[value.val.index])
    mean, deviation = (value.summary[f"target_{what}.target"] for what in ("mean", "std"))
    np.testing.assert_allclose(value.val.targets * deviation + mean, value.val.index, atol=1e-4)
    assert loaded(folder, inputs="png", targets="txt").target_names == ("a", "b", "c")
    assert loaded(folder, inputs="png", targets="json.name").target_names == ("a", "b", "c")
    tokens = loaded(folder, inputs="ids.npy", tokens=True)
    np.testing.assert_array_equal(tokens.val.tensor, (ARRAYS[tokens.val.index, 0].clip(0) * 3).astype(np.int64))
    masks = loaded(folder, inputs="png", targets="seg.png", task="segmentation")
    mask = Image.fromarray(PIXELS[int(masks.val.index[0]), :, :, 0] % 3)
    np.testing.assert_array_equal(masks.val.targets[0], ImageOps.fit(mask, (6, 6), Image.Resampling.NEAREST))


@pytest.mark.parametrize(
    "change, options, message",
    [
        (
            {},
            {"targets": "label"},
            r"the sample images/a0 of .*one\.tar has no file \.label, but \.png, .*data\.targets",
        ),
        ({}, {"targets": "json.valeu"}, r"sample images/a0 .*\.json has no key 'valeu': did you mean 'value'"),
        ({}, {"inputs": "jpg"}, r"images/a0 of .* has no file \.jpg"),
        ({"png": None}, {}, r"images/a1 of .* has no file \.png"),
        (
            {"seg.png": b"no"},
            {"targets": "seg.png", "task": "segmentation"},
            r"target \.seg\.png of .* images/a1",
        ),
        ({"cls": b"cat"}, {}, r"target \.cls of the sample images/a1 of .*one\.tar cannot be read \(invalid literal"),
        ({"png": b"no"}, {}, r"the sample images/a1 of .*one\.tar cannot be read .*convert it to an 8-bit PNG"),
        ({"x.npy": b"no"}, {"inputs": "x.npy"}, r"array of the sample images/a1 of .* cannot be read"),
        ({"x.npy": encoded(np.zeros((3, 5)))}, {"inputs": "x.npy"}, r"images/a1 .* float64 \[3, 5\].*first .*\[2, 5\]"),
        ({}, {"inputs": "x.npy", "tokens": True}, r"data\.tokens=true, but the inputs are float64"),
        ({}, {"inputs": None}, r"images/a0 has png and npy: say which the inputs are, as in data\.inputs=png"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, change, options, message):
    whole = sample(0) | {"x.npy": encoded(np.zeros((2, 5))), "npy": encoded(np.zeros(3))}
    other = {ending: content for ending, content in (whole | change).items() if content is not None}
    rows = {f"a{number}": whole | {"cls": str(number % 2).encode()} for number in range(30)}
    write(tmp_path / "one.tar", rows | {"a1": other})
    with pytest.raises(UserError, match=message):
        loaded(tmp_path, **{"inputs": "png"} | options)


def test_files_that_cannot_be_read_by_number_are_refused(tmp_path):
    write(tmp_path / "packed.tar.gz", {"a": sample(0)}, "w:gz")
    with pytest.raises(UserError, match=r"packed\.tar\.gz is compressed.*unpack it"):
        loaded(tmp_path)
    with pytest.raises(UserError, match=r"has no tar files: give a file, a folder"):
        loaded(tmp_path / "none")
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(UserError, match=r"text\.tar is no tar archive"):
        loaded(tmp_path / "text.tar")
    write(tmp_path / "empty.tar", {})
    with pytest.raises(UserError, match=r"empty\.tar has no samples"):
        loaded(tmp_path / "empty.tar")
