"""Export a trained model to files that need no reglab: a program of torch.export, or ONNX."""

import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.data.preprocessing import FILE, Preprocessing
from reglab.inference.predictor import Predictor
from reglab.measures.evaluate import evaluation_mode

Format = Literal["torch", "onnx"]
PROGRAM, ONNX, WEIGHTS = "program.pt2", "model.onnx", "weights.pt"
_ROWS = 3  # of the example: a program made of one row may take it for the only size
_CLOSE = 1e-4


def export(predictor: Predictor, folder: Path, form: Format = "torch") -> list[Path]:
    """Write a model, for any number of rows, and how its inputs are made.

    ``program.pt2`` is read by ``torch.export.load``, ``weights.pt`` (the state dict) by
    ``torch.load``; ``model.onnx`` by any runtime of ONNX; ``preprocessing.json`` is plain data.

    Args:
        predictor: Of the run.
        folder: Which is not there yet.
        form: Of the program.

    Returns:
        The files.

    Raises:
        UserError: For a folder that is there, a model that cannot be exported, and packages that
            are not installed.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: give another folder by out=FOLDER, or remove it")
    if form == "onnx" and (absent := [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]):
        raise UserError(f"format=onnx needs packages that are not installed: pip install {' '.join(absent)}")
    with whole_folder(folder) as beside:
        example = example_inputs(predictor.preprocessing, predictor.model)
        with evaluation_mode(predictor.model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own ways
            joined = _Joined(predictor.model) if predictor.preprocessing.inputs else predictor.model
            _write(joined, example, beside, form)
        torch.save(predictor.model.state_dict(), beside / WEIGHTS)
        (beside / FILE).write_text(predictor.preprocessing.text(), encoding="utf-8")
    return sorted(folder.iterdir())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Return a new folder that becomes ``folder`` if the context ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def example_inputs(preprocessing: Preprocessing, model: nn.Module) -> Tensor:
    """Return prepared inputs of a few rows, random and the same each time."""
    weight = next(model.parameters(), torch.empty(0))
    shape = (_ROWS, *preprocessing.shape)
    if preprocessing.tokens:
        return torch.ones(shape, dtype=torch.int64, device=weight.device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(weight.device, weight.dtype)


class _Joined(nn.Module):
    """Takes several inputs as one tensor, the values one behind the other, as data hold them; a hook
    of the model cuts it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(inputs)
        return outputs


def _write(model: nn.Module, example: Tensor, folder: Path, form: Format) -> None:
    rows = torch.export.Dim("rows", min=1)
    try:
        program = torch.export.export(model, (example,), dynamic_shapes=({0: rows},))
        with torch.no_grad():
            apart = (program.module()(example) - model(example)).abs().max()
        if form == "onnx":
            torch.onnx.export(program, f=folder / ONNX, dynamo=True, verbose=False)
        else:
            torch.export.save(program, folder / PROGRAM)
    except Exception as error:  # of torch's tracing, and of code of the model's
        raise UserError(
            f"the model cannot be exported ({type(error).__name__}: {str(error).splitlines()[0]}): its weights are in "
            "the run's checkpoint, reglab.load(RUN)"
        ) from error
    if not apart <= _CLOSE:
        raise UserError(
            f"the exported program answers otherwise than the model (by {float(apart):.2g}), so it is not kept: use "
            "reglab.load(RUN)"
        )
