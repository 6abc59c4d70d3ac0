"""The report of a table is shown before a run or a sweep trains, and kept with it."""

import shutil
from contextlib import chdir
from pathlib import Path

from reglab.cli.command import main


def test_a_run_shows_the_report_of_its_table_and_keeps_it(tmp_path, capfd):
    with chdir(tmp_path):
        rows = [f"{row / 8},5,{row % 2}" for row in range(80)]
        Path("sales.csv").write_text("\n".join(["area,same,y", *rows]) + "\n")
        words = ["train", "data=table", "data.path=sales.csv", "data.target=y", "trainer=cpu", "tracking=offline"]
        assert main([*words, "trainer.max_epochs=1"]) == 0
        told = capfd.readouterr().err
        (kept,) = Path("runs").rglob("table_report.md")
        assert "| area | input | number | 0.0; 0.125; 0.25 | 80 | 0 |" in kept.read_text()
    assert told.index("table sales: 80 rows (48 training, 16 validation, 16 test); inputs: 2 numbers; target: y") >= 0
    assert "! same (number: 5): constant in the training part (5.0)" in told


def test_a_sweep_keeps_it_once_and_its_page_shows_it(template, tmp_path, capfd):
    shutil.copy(template, tmp_path / "reglab.db")
    with chdir(tmp_path):
        rows = [f"{row / 8},5,<b>{row % 3}</b>,{row % 2}" for row in range(80)]
        Path("sales.csv").write_text("\n".join(["area,same,<i>note</i>,y", *rows]) + "\n")
        words = ["train", "-m", "data=table", "data.path=sales.csv", "data.target=y", "data.split_seed=0,1"]
        words += ["trainer=cpu", "trainer.max_epochs=1", "hydra/launcher=basic", "model=linear"]
        assert main(words) == 0
        told = capfd.readouterr().err
        (kept,) = Path("runs").rglob("table_report.json")
        page = kept.with_name("report.html").read_text(encoding="utf-8")
        assert main(["report", str(kept.parent)]) == 0  # from the store
        again = Path("report.html").read_text(encoding="utf-8")
    assert told.count("table sales: 80 rows") == 1
    for text in (page, again):
        assert text.count("<h2>The table sales</h2>") == 1
        assert "<li><b>same (number: 5): constant in the training part (5.0)</b></li>" in text
        assert "<td>&lt;i&gt;note&lt;/i&gt;</td>" in text
        assert "<i>note" not in text
        assert "<b>0</b>" not in text
