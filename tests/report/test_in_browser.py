"""The page in a real browser: it opens from disk, and what can be moved moves."""

from itertools import pairwise

import pytest

WIDTHS = (1280, 400)
FILM, SHEETS, TILE = ".viewer.film", ".viewer.wide", ".viewer.tile"


@pytest.fixture(scope="module")
def opened(browser, page_path):
    """The page and everything that a browser complained about."""
    complaints = []
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_path.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page, complaints
    page.close()


def shown(viewer):
    """Pixels of a viewer's pictures, as the browser decoded them."""
    return viewer.evaluate(
        """figure => Promise.all([...figure.querySelectorAll(".track img")].map(async image => {
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }))"""
    )


def test_opens_from_disk_without_a_complaint_or_a_network(opened):
    page, complaints = opened
    assert page.title() == "Report on ppo_vae"
    assert complaints == []


def test_every_chart_is_drawn_and_described(opened):
    page, _ = opened
    plots = page.locator(".plot").all()
    assert len(plots) > 15
    assert all(plot.locator("svg.main-svg").count() for plot in plots)
    assert all("finite" not in plot.get_attribute("aria-label") for plot in plots)
    lines = page.locator("path.js-line").count()
    assert lines > 15


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(opened, width, request):
    page, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(
        """[...document.querySelectorAll(".plot")].every(plot => {
            const drawn = plot.querySelector("svg.main-svg").getBoundingClientRect();
            return Math.abs(drawn.width - plot.clientWidth) < 2;
        })"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Kept by pytest: .pytest_cache/d/screenshots.
    screenshots = request.config.cache.mkdir("screenshots")
    assert page.screenshot(full_page=True, path=screenshots / f"report_{width}.png")


@pytest.mark.parametrize("kind, n_pictures", [(FILM, 2), (SHEETS, 1), (TILE, 1)])
def test_a_slider_changes_its_pictures(opened, kind, n_pictures):
    page, _ = opened
    viewer = page.locator(kind).first
    slider = viewer.locator("input")
    slider.fill("0")
    before, text = shown(viewer), viewer.locator("output").inner_text()
    slider.fill(slider.get_attribute("max"))
    after = shown(viewer)
    assert len(before) == len(after) == n_pictures
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert viewer.locator("output").inner_text() != text


def test_arrow_keys_move_the_film_and_the_mark_on_its_chart(opened):
    page, _ = opened
    viewer = page.locator(FILM)
    slider = viewer.locator("input")
    slider.fill("0")
    slider.focus()
    before = shown(viewer)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "2"
    assert shown(viewer) != before
    assert viewer.locator("output").inner_text().startswith("step 2 ·")
    assert slider.get_attribute("aria-valuetext").startswith("step 2 ·")
    assert viewer.locator(".plot").evaluate("plot => plot.layout.shapes[0].x0") == 2


def test_the_film_plays_and_pauses_by_keyboard(opened):
    page, _ = opened
    viewer = page.locator(FILM)
    slider, button = viewer.locator("input"), viewer.locator("button")
    slider.fill("0")
    button.focus()
    page.keyboard.press("Enter")
    assert button.inner_text() == "Pause"
    page.wait_for_function("Number(document.querySelector('.viewer.film input').value) >= 2")
    page.keyboard.press("Enter")
    stopped = slider.input_value()
    assert button.inner_text() == "Play"
    page.wait_for_timeout(250)
    assert slider.input_value() == stopped


def test_the_first_tab_leads_to_the_content(browser, page_path):
    page = browser.new_page()
    page.goto(page_path.as_uri(), wait_until="commit")
    page.wait_for_selector("nav")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.close()


def test_everything_has_a_name_for_those_who_do_not_see_it(opened):
    page, _ = opened
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator(".plot:not([aria-label]), .plot[aria-label='']").count() == 0
    assert page.locator("input").count() == page.evaluate(
        "[...document.querySelectorAll('input')].filter(one => one.labels.length && one.labels[0].textContent).length"
    )
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    anchors = page.evaluate("[...document.querySelectorAll('nav a')].map(one => one.getAttribute('href').slice(1))")
    assert anchors and all(page.locator(f"#{anchor}").count() == 1 for anchor in anchors)


def test_charts_follow_the_colours_of_the_page(opened):
    page, _ = opened
    text = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate(text)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{text} !== '{light}'")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert background == "rgb(21, 23, 26)"
