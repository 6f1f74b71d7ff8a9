"""The web page in Debian's Chromium: search in both languages, filters, before and after, shoppers, a phone."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect

from synthrec.recommenders.bi_encoder import BiEncoder
from tests import little_bundle

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium"),
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>zyzzyva</b> pan"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    little_bundle.make(root / "one", BiEncoder.load("embedded"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
        with little_bundle.served(little_bundle.home(root), poll_seconds=0.1) as client:
            yield str(client.base_url).rstrip("/")


@pytest.fixture
def page(browser, url):
    """The page as it opens; at the end nothing was asked of any other host, and no script failed."""
    made = browser.new_page(locale="en-GB", viewport={"width": 1100, "height": 900})
    asked, failed = [], []
    made.on("request", lambda request: asked.append(request.url))
    made.on("pageerror", lambda error: failed.append(str(error)))
    made.goto(url)
    expect(made.locator("#served")).to_contain_text("products")
    yield made
    made.close()
    assert failed == []
    assert all(one.startswith((url, "data:")) for one in asked)


def search(page, words):
    page.get_by_role("searchbox").fill(words)
    expect(page.locator("#told")).to_contain_text("found")
    return page.locator("#results li")


def until(page, fits):
    """Wait till all products shown fit."""
    for _ in range(200):
        found = page.locator("#results .facts").all_inner_texts()
        if found and all(map(fits, found)):
            return
        page.wait_for_timeout(50)
    raise AssertionError(found)


@pytest.mark.parametrize(("words", "language"), [("cast iron skillet", "en"), ("炒菜不粘的锅", "zh")])
def test_results_come_while_one_types_and_say_why(page, words, language):
    first = search(page, words).first
    expect(first.locator(".title")).to_have_attribute("lang", language)
    first.get_by_text("Why is this here?").click()
    expect(first.locator("dl")).to_be_visible()
    assert first.locator("dd").nth(0).inner_text() != "none"
    assert float(first.locator("dd").nth(2).inner_text()) > 0


def test_filters_narrow_and_what_is_similar_is_shown(page):
    search(page, "pan")
    page.get_by_label("to price").fill("30")
    page.get_by_label("Storefront").select_option("en")
    until(page, lambda facts: facts.endswith("· en") and float(facts.split(" · ")[-2]) <= 30)
    first = page.locator("#results li").first
    title = first.locator(".title").inner_text()
    first.get_by_role("button", name="Similar").click()
    expect(page.locator("#similar h2")).to_contain_text(title)
    assert title not in page.locator("#similar .title").all_inner_texts()


def test_before_and_after_stand_side_by_side(page):
    search(page, "something to keep soup warm")
    page.get_by_role("switch").check()
    expect(page.locator("#results h2")).to_have_text([re.compile("^Before"), re.compile("^After")])
    before, after = (
        set(column.locator("li").evaluate_all("all => all.map(one => one.dataset.product)"))
        for column in page.locator("#results > div").all()
    )
    assert page.locator("#results .badge").count() == len(after - before) > 0


def test_a_click_changes_what_a_shopper_is_recommended(page):
    page.get_by_role("tab", name="For a shopper").click()
    page.get_by_role("button", name="A new visitor").click()
    expect(page.locator("#recommended li").first).to_be_visible()
    expect(page.get_by_label("Shopper", exact=True)).to_have_value(re.compile("^visitor-"))
    page.locator("#recommended li").nth(2).get_by_role("button", name="Buy").click()
    expect(page.locator("#recommended h2")).to_have_text(["Before the last click", "Recommended now"])
    before, now = (column.locator(".title").all_inner_texts() for column in page.locator("#recommended > div").all())
    assert before != now
    expect(page.locator("#profile")).not_to_be_empty()


def test_brands_and_texts_are_answered_or_it_says_why_not(page):
    page.get_by_role("tab", name="Brands and replies").click()
    page.get_by_label("Brands for").fill("a pan for eggs")
    page.get_by_role("button", name="Show brands").click()
    expect(page.locator("#brands li").first).to_be_visible()
    page.get_by_label("A shopper writes to the shop").fill("Does the pan fit an oven?")
    page.get_by_role("button", name="Suggest replies").click()
    expect(page.locator("#replies li, [role=alert]:visible").first).to_be_visible()


def test_it_can_be_used_with_keys_alone_and_in_chinese(page):
    page.get_by_role("tab", name="Search").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="For a shopper")).to_be_focused()
    expect(page.locator("#panel-shopper")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("pan")
    expect(page.locator("#results li").first).to_be_visible()
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("tab", name="个性化推荐")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh")


def test_a_phone_shows_it_without_scrolling_sideways(page, tmp_path):
    page.set_viewport_size({"width": 360, "height": 740})
    search(page, "pan")
    page.get_by_role("switch").check()
    expect(page.locator("#results h2")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = page.locator("button:visible").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert min(heights) >= 28  # pixels: what a finger hits


def test_a_title_cannot_become_markup(page, url):
    page.request.post(f"{url}/v1/products", data={"upsert": [{"product_id": "x<y", "title": HOSTILE}]})
    expect(search(page, "zyzzyva").first.locator(".title")).to_contain_text("zyzzyva")
    assert page.title() == "synthrec"
    assert page.locator("#results img").count() == 0
