"""A sweep's data are loaded once before any job starts; faults stop the sweep."""

import sqlite3
import subprocess
import sys
from contextlib import chdir, closing
from pathlib import Path

import pytest

from reglab.cli.command import main
from reglab.sweeps import data_check
from reglab.training import preflight

CONF = Path(__file__).parents[2] / "conf"
DAYS = [f"2024-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]


@pytest.fixture
def folder(tmp_path):
    with chdir(tmp_path):
        rows = [f"day {day},{number % 7},{(number * 3) % 5 - number % 7}" for number, day in enumerate(DAYS)]
        Path("sales.csv").write_text("\n".join(["day,visitors,price", *rows]) + "\n")
        yield tmp_path


def job(**changes):
    found = {
        "data": {"name": "table", "path": "sales.csv", "target": "price", "batch_size": 32},
        "trainer": {"max_epochs": 2},
        "regularizer": {"ema": {"_target_": "reglab.regularizers.EMA", "strength": 0.999}},
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        found[group] = {**found[group], name: value}
    return found


def test_a_fault_is_told_once_for_all_jobs_that_have_it(folder):
    jobs = {0: job(), 1: job(data__split_seed=3), 2: job(data__target="prize"), 3: job(data__batch_size=0)}
    seen = preflight.check_jobs(jobs)
    assert list(seen.faults.values()) == [[0, 1], [2], [3]]
    date, target, batch = seen.faults
    assert "'day' holds 336 different values" in date
    assert "data.drop=[day]" in date
    assert "prize" in target
    assert "data.batch_size" in batch
    assert not seen.advice


def test_distinct_data_are_loaded_once_and_so_many_at_most(folder, monkeypatch):
    loaded = []
    real = preflight.data.load
    monkeypatch.setattr(preflight.data, "load", lambda node: loaded.append(node) or real(node))
    jobs = {seed: job(data__drop=["day"], data__split_seed=seed, data__label_noise=0.0) for seed in range(20)}
    assert not preflight.check_jobs(jobs).faults
    assert len(loaded) == 1
    loaded.clear()
    sizes = {size: job(data__drop=["day"], data__train_size=100 + size) for size in range(20)}
    assert not preflight.check_jobs(sizes).faults
    assert len(loaded) == preflight.LOADED


def test_what_cannot_matter_is_told_with_the_steps_of_the_run(folder):
    jobs = {n: job(data__drop=["day"], regularizer__ema={"_target_": "reglab.regularizers.EMA", "strength": s})
            for n, s in enumerate((0.5, 0.98, 0.999, 0.9999))}  # fmt: skip
    # 336 days, of which 60% train: 202 rows, 7 steps of at most 32 an epoch.
    found = preflight.check_jobs(jobs)
    ((table, (report, all_jobs)),) = found.tables.items()
    ((sentence, whom),) = found.advice.items()
    assert table == report.text()
    assert table.startswith("table sales: 336 rows (202 training, 67 validation, 67 test); inputs: 1 number")
    assert all_jobs == [0, 1, 2, 3]
    assert sentence.startswith("regularizer.ema: in a run of 14 steps no decay above 0.6087 has an effect")
    assert whom == [1, 2, 3]


def test_data_that_take_too_long_are_left_to_the_jobs(folder):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", return_hydra_config=True, overrides=["hydra/launcher=local"])
    assert data_check.check_in_process({0: job()}, config, seconds=0.0) is None


@pytest.mark.parametrize("launcher", ["fused", "process"])  # local has fused's processes
def test_a_sweep_over_a_table_that_cannot_be_read_starts_nothing(folder, launcher, capfd, monkeypatch):
    monkeypatch.setattr(data_check, "TIMEOUT_SECONDS", 600.0)
    code = main(
        [
            *("train", "-m", "data=table", "data.path=sales.csv", "data.target=price", "regularizer=[l1]"),
            *("regularizer.l1.strength=1e-4,1e-3,1e-2", "seed=0,1", f"hydra/launcher={launcher}"),
            *("trainer.accelerator=cpu", "hydra.launcher.workers=1"),
        ]
    )
    assert code not in (0, None)
    told = capfd.readouterr().err
    assert told.count("holds 336 different values") == 1
    assert "6 of 6 jobs cannot run, so none was started" in told
    assert not list(Path().rglob("run.json"))
    with closing(sqlite3.connect("reglab.db")) as store:  # the ledger was asked, and nothing was opened
        assert store.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_the_sweeps_own_process_starts_without_torch(tmp_path):
    """Torch takes seconds to import, and unpickling a class of ours would import it."""
    code = "import sys; from reglab.cli.command import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = ["train", "-m", "data=wine", "model=linear", "trainer=cpu", "trainer.max_epochs=1", "tracking=offline"]
    words += ["optimizer.lr=0.1,0.2", "hydra/launcher=local", "hydra.launcher.workers=1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["0 False"], done.stderr[-2000:]
