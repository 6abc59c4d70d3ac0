"""The dashboard as a user sees it: a real sweep, `reglab dashboard`, and a real headless browser that clicks along."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tracking.dashboard_process import REGLAB, browser_path, dashboard

pytestmark = pytest.mark.xdist_group("browser")  # one worker, so that the sweep and the server are started once

JOBS = ("none seed 0", "none seed 1", "l2 0.1 seed 0", "l2 0.1 seed 1")
SWEEP = "sweep of none, l2"
TINY = "data=wine model.width=8 trainer.max_epochs=3 measure.resamples=20 hydra.launcher.workers=1"
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
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a sweep of two settings and two seeds was run; after ``browser``, whose lack skips it all."""
    folder = tmp_path_factory.mktemp("study")
    values = ["regularizer=none,l2", "+regularizer.l2.strength=0.1", "seed=0,1", *TINY.split()]
    done = subprocess.run([REGLAB, "train", "-m", *values], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with dashboard(folder) as address:
        yield address


@pytest.fixture
def runs(browser: Browser, address: str) -> Iterator[Page]:
    """The page of the experiment, reached as a user does: MLflow 3 opens in its other half, made for chats."""
    context = browser.new_context(viewport={"width": 1600, "height": 1200})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("link", name="reglab", exact=True).click()
    yield page
    context.close()
