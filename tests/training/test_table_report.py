"""The report of a table is shown before a run trains, and kept with it."""

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
