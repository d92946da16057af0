"""Writes docs/report-wide.png and docs/report-phone.png: the report page of a run in headless Chromium.

    arc-kaggle report RUN && python docs/screenshots.py RUN/report.html

It wants Chromium and its driver, in Debian `apt-get install chromium chromium-driver`.
"""

from __future__ import annotations

import base64
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

DOCS = Path(__file__).parent
SHOTS: dict[str, tuple[int, int, str, str, str]] = {
    "report-wide": (1280, 1460, "light", "#h-time", "article:not([hidden]) details"),
    "report-phone": (390, 844, "dark", "article:not([hidden]) .side", ""),
}
"""Width and height in pixels, the colour scheme, what stands at the top, and what is opened, by file."""
FILTERED = """
const kinds = ["near_miss", "wrong_cells", "wrong_size", "outvoted", "solved"];
const button = kinds.map((kind) => document.querySelector(`[data-kind=${kind}]`)).find((each) => !each.disabled);
button.click();
document.querySelector("article:not([hidden])").scrollIntoView();
"""
"""Only tasks of one kind are left, the first kind that the run has."""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
MOST_BYTES = 200_000
SETTLE_SECONDS = 1.0
"""For cards that are drawn as they come into view."""


def take(page: Path) -> None:
    """Take all pictures of a page."""
    options = Options()
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        for name, (width, height, scheme, top, open_first) in SHOTS.items():
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(page.resolve().as_uri())
            opened = f"document.querySelector('{open_first}').open = true" if open_first else ""
            for script in (FILTERED, opened, f"document.querySelector('{top}').scrollIntoView()"):
                driver.execute_script(script)
                time.sleep(SETTLE_SECONDS)
            shot: dict[str, Any] = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            content = base64.b64decode(shot["data"])
            if len(content) > MOST_BYTES:
                sys.exit(f"{name}: found {len(content)} bytes, expected at most {MOST_BYTES}")
            (DOCS / f"{name}.png").write_bytes(content)
    finally:
        driver.quit()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
