"""Make the figure of README.md.

What strength does, from the report of a sweep, by a headless browser.

    python scripts/report_image.py runs/DATE/TIME/report.html [docs/images/report.png]

The report of scripts/run is the one to take. It needs Chromium, and playwright of the extra dev.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FIGURE = "What strength does"
WIDTH, HEIGHT = 1000, 800
LARGEST = 200_000  # bytes: the page must load at once
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main(report: str, image: str = "docs/images/report.png") -> int:
    """Write the figure and return the exit code."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("no Chromium or Chrome is installed; on Debian: apt install chromium", file=sys.stderr)
        return 1
    target = Path(image)
    target.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=SWITCHES)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(Path(report).resolve().as_uri())
        page.locator("figure", has_text=FIGURE).first.screenshot(path=target)
        chromium.close()
    size = target.stat().st_size
    print(f"{target}: {size} bytes")
    return 0 if size < LARGEST else 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
