"""What tests do with a report page in a browser: open it, and read what it shows."""

from __future__ import annotations

from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

TABLES = """
return Object.fromEntries([...document.querySelectorAll(arguments[0] + " table")].map((table) => [
  table.caption.textContent, [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent))]))
"""


def open_page(browser: webdriver.Chrome, path: Path, width: int = 1280, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.as_uri())


def shown(browser: webdriver.Chrome) -> list[str]:
    """Ids of the tasks that are not filtered away, in order."""
    cards = browser.find_elements(By.CSS_SELECTOR, "article:not([hidden])")
    return [str(card.get_attribute("data-task")) for card in cards]


def tables(browser: webdriver.Chrome, within: str) -> dict[str, list[list[str]]]:
    """By caption the rows of every table, each with the texts of its cells; the heads of the columns come first."""
    found: dict[str, list[list[str]]] = browser.execute_script(TABLES, within)
    return found
