"""Runs on small tables, made once: tests predict by them."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from reglab.cli.command import main

TINY = ("trainer=cpu", "tracking=none", "optimizer.lr=1e-2", "trainer.max_epochs=15")
SMALL = ("model=mlp", "model.width=8", "model.depth=1")


class Trained(NamedTuple):
    """A working folder with one run in it."""

    folder: Path
    run: Path


def churn(rows: int = 240) -> pd.DataFrame:
    """Return a table with missing numbers, dates, truth values, categories, and a target that they tell."""
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": draws.integers(18, 80, rows).astype(str),
            "income": [f"{value:.2f}" for value in draws.normal(3000, 800, rows)],
            "city": draws.choice(["Bern", "Basel", "Chur"], rows),
            "member": draws.choice(["True", "False"], rows),
            "joined": [f"{day}/{month}/2024" for day, month in draws.integers((17, 1), (29, 13), (rows, 2))],
            "plan": draws.choice(["a", "b", ""], rows),
        }
    )
    told = frame["age"].astype(float) / 20 + (frame["city"] == "Bern") * 2 + (frame["income"].astype(float) / 800)
    frame.loc[draws.random(rows) < 0.1, "income"] = ""
    return frame.assign(churn=np.where(told > told.median(), "yes", "no"), spend=told * 100 + 7)


def train(folder: Path, *words: str, model: tuple[str, ...] = SMALL) -> Path:
    """Train a small job in ``folder`` and return the folder of its run."""
    before = set(folder.glob("runs/*/*"))
    with chdir(folder):
        assert main(["train", *TINY, *model, *words]) == 0
    (made,) = set(folder.glob("runs/*/*")) - before
    return made


@pytest.fixture(scope="session")
def churned(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that classifies the rows of ``churn.csv``, and that table."""
    folder = tmp_path_factory.mktemp("churn")
    churn().to_csv(folder / "churn.csv", index=False)
    words = ("data=table", "data.path=churn.csv", "data.target=churn", "data.drop=spend", "regularizer=[ema]")
    return Trained(folder, train(folder, *words))


@pytest.fixture(scope="session")
def stored(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """A run on ``churn.csv`` in a store."""
    folder = tmp_path_factory.mktemp("stored")
    shutil.copy(template, folder / "reglab.db")
    churn().to_csv(folder / "churn.csv", index=False)
    words = ("data=table", "data.path=churn.csv", "data.target=churn", "data.drop=spend", "regularizer=[l1]")
    yield Trained(folder, train(folder, *words, "tracking=mlflow"))
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._get_or_create_engine(f"sqlite:///{folder / 'reglab.db'}").dispose()


NEW = pd.DataFrame(
    {
        "plan": ["a", None, "z"],  # z: no training row has it
        "city": ["Bern", "Zug", "Chur"],
        "income": [5000.5, None, 1000],
        "id": [7, 8, 9],  # of no use
        "age": [70, 20, None],
        "member": [True, False, True],
        "joined": ["17/2/2024", "28/12/2024", None],
    }
)
