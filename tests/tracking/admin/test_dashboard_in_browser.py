"""The dashboard as a user sees it.

A real sweep, `reglab dashboard`, and a real headless browser that clicks along.
"""

import html
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

import forked
from tracking.admin.dashboard_process import browser_path, dashboard

JOBS = ("none seed 0", "none seed 1", "l2 0.1 seed 0", "l2 0.1 seed 1")
SWEEP = "sweep of none, l2"
BLOCKS = "sweep.blocks=[{regularizer:[]},{regularizer:[l2],regularizer.l2.strength:0.1}]"
TINY = "sweep.seeds=2 data=wine model.width=8 trainer.max_epochs=3 hydra.launcher.workers=1"
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = browser_path()
    if path is None:
        missing = "no Chromium or Chrome is installed; on Debian: apt install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(browser: Browser, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a sweep of two settings and two seeds was run.

    After ``browser``, whose lack skips it all.
    """
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(template, folder / "reglab.db")
    done = forked.run(["-m", "reglab", "train", "-m", BLOCKS, *TINY.split()], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with dashboard(folder) as address:
        yield address


@pytest.fixture
def runs(browser: Browser, address: str) -> Iterator[Page]:
    """The page of the experiment, reached as a user does.

    MLflow 3 opens in its other half, made for chats.
    """
    context = browser.new_context(viewport={"width": 1600, "height": 1200})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("link", name="reglab", exact=True).click()
    yield page
    context.close()


def test_the_list_of_runs_shows_the_sweep_and_its_children_under_it(runs):
    expect(runs.get_by_text("Sort: Created")).to_be_visible()
    sweep = run(runs, SWEEP)
    expect(sweep).to_be_visible()
    assert [run(runs, job).count() for job in JOBS] == [0, 0, 0, 0]
    # The plus before its name.
    runs.get_by_role("row").filter(has=sweep).get_by_role("button").click()
    for job in JOBS:
        expect(run(runs, job)).to_be_visible()


def test_the_page_of_the_sweep_shows_verdict_and_children(runs, verdict):
    run(runs, SWEEP).click()
    expect(runs.get_by_role("heading", name=SWEEP)).to_be_visible()
    expect(runs.get_by_text(verdict).first).to_be_visible()
    for job in JOBS:
        expect(run(runs, job)).to_be_visible()
    expect(runs.get_by_text("Finished", exact=True)).to_be_visible()


def test_the_page_of_a_child_shows_metrics_and_their_charts(runs):
    run(runs, SWEEP).click()
    run(runs, JOBS[3]).click()
    expect(runs.get_by_role("heading", name=JOBS[3])).to_be_visible()
    search = runs.get_by_placeholder("Search metrics")
    for name in ("val/loss", "gap/loss", "weights/all/l2"):
        search.fill(name)
        row = runs.get_by_role("row").filter(has=runs.get_by_role("link", name=name, exact=True))
        expect(row).to_have_text(re.compile(rf"{name}-?\d+\.?\d*"))

    runs.get_by_role("tab", name="Model metrics").click()
    runs.get_by_placeholder("Search metric charts").fill("^gap/loss$")
    expect(runs.get_by_text(f"{JOBS[3]} (gap/loss)")).to_be_visible()
    line = runs.locator(".js-plotly-plot path.js-line").first  # drawn twice, one over the other
    # The untrained model and three epochs.
    expect(line).to_have_attribute("d", re.compile("^M[^L]+(L[^L]+){3}$"))


def test_the_report_of_the_sweep_is_shown_with_its_figures(runs, verdict):
    run(runs, SWEEP).click()
    runs.get_by_role("tab", name="Artifacts").click()
    runs.get_by_text("report.html").first.click()
    report = runs.frame_locator("iframe")
    expect(report.get_by_role("heading", level=1)).to_have_text(verdict)
    expect(report.locator("figure svg").first).to_be_visible()
    expect(report.get_by_role("row").filter(has_text="l2")).to_contain_text("0.1")


@pytest.fixture(scope="module")
def verdict(folder: Path) -> str:
    """The headline of the report that the sweep left in its folder."""
    (report,) = folder.glob("runs/*/*/report.html")
    return html.unescape(re.search("<h1>(.*)</h1>", report.read_text())[1])


def run(page: Page, name: str) -> Locator:
    return page.get_by_role("link", name=name, exact=True)
