"""The report in a real browser: nothing missing, nothing fetched, tables that sort, any width."""

from __future__ import annotations

import os
import re
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install 'scbatchnorm[dev]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 120_000  # milliseconds, for a machine that does other things, too

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    # Chromium's own sandbox does not work for root, as in containers.
    quiet += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=quiet, timeout=TIMEOUT)
        yield opened
        opened.close()


@pytest.fixture
def view(browser, reported):
    """Opens the report at a width; whatever the page says or asks for is noted."""
    contexts = []

    def at(width=1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        context.set_default_timeout(TIMEOUT)
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(reported[1].as_uri())
        return page

    yield at
    for context in contexts:
        context.close()


def column(table, place):
    return [row.locator("th, td").nth(place).get_attribute("data-value") for row in table.locator("tbody tr").all()]


def test_nothing_is_said_and_nothing_fetched(view):
    page = view()
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.title() == "Integration of 128 cells by batch"


@pytest.mark.parametrize("width", [1200, 360], ids=["desktop", "phone"])
def test_every_picture_is_seen_and_nothing_sticks_out(view, width):
    page = view(width)
    pictures = page.locator("img").all()
    assert len(pictures) == 10
    for picture in pictures:
        picture.scroll_into_view_if_needed()
        assert picture.is_visible()
        assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
        box = picture.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_are_sorted_by_click_and_by_keyboard(view):
    page = view()
    table = page.locator("table", has_text="Scores: 0 is worst")
    heading = table.locator("thead th", has_text="X_scbatchnorm")
    before = column(table, 2)
    heading.locator("button").click()
    found = [float(value) for value in column(table, 2) if value]
    assert found == sorted(map(float, filter(None, before)), reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").press("Enter")
    assert [float(value) for value in column(table, 2) if value] == found[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    table.locator("thead th").first.locator("button").click()
    assert column(table, 0) == sorted(column(table, 0), key=str.lower)
    assert heading.get_attribute("aria-sort") is None


def test_what_is_not_known_is_last_in_either_order(view):
    page = view()
    table = page.locator("table", has_text="Scores of each type")
    table.locator("tbody tr").nth(1).locator("td").first.evaluate("cell => { cell.dataset.value = '' }")
    for _ in range(2):
        table.locator("thead th").nth(1).locator("button").click()
        values = column(table, 1)
        assert values[-1] == ""
        assert "" not in values[:-1]


def test_folded_tables_open(view):
    page = view()
    parameters = page.locator("details", has_text="Parameters of the model")
    assert not parameters.locator("table").is_visible()
    parameters.locator("summary").click()
    assert parameters.locator("table").is_visible()


def test_the_paragraph_is_copied_or_selected(view):
    page = view()
    page.locator("button", has_text="Copy the paragraph").click()
    page.wait_for_function("document.querySelector('[data-copies=paragraph]').textContent !== 'Copy the paragraph'")


def test_complete_without_script_and_on_paper(view):
    page = view(java_script_enabled=False)
    assert page.locator("table").first.is_visible()
    assert page.locator("thead button").count() == 0
    paper = view().pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) > 2
