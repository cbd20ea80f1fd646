"""The page itself: what is drawn, and what mouse, keys and fingers do to it."""

from __future__ import annotations

import re

import pytest
from viewer.page import Reader
from viewer.reviewed_chest import NAME, Server

pytestmark = pytest.mark.slow


def pixels(reader, canvas, j, i):
    """Red, green and blue in the middle of a voxel."""
    x, y = reader.place(j, i)
    box = reader.page.locator(canvas).bounding_box()
    return reader.page.evaluate(
        "([id, x, y]) => [...document.querySelector(id).getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)",
        [canvas, x - box["x"], y - box["y"]],
    )


def test_a_reading_beside_shows_its_own_outlines_follows_the_image_and_cannot_be_edited(browser, two_readings):
    reader = Reader(browser, two_readings)
    page = reader.page
    page.locator("#axial").focus()
    reader.key("f", "d", "b", "1")  # the lesion that is LM to one and RCA to the other, and a brush in the hand
    assert reader.slice() in (5, 6)
    vivid = """(id) => {
      const canvas = document.getElementById(id), { width, height } = canvas, found = new Set();
      const data = canvas.getContext("2d").getImageData(0, 24, width - 30, height - 24).data;
      for (let n = 0; n < data.length; n += 4) {
        const rgb = [data[n], data[n + 1], data[n + 2]];
        if (Math.max(...rgb) - Math.min(...rgb) > 90) found.add(rgb.join());
      }
      return [...found];
    }"""
    colors = {one["name"]: one["color"] for one in reader.server.ask("api/cases/0")[1]["scan"]["arteries"]}

    def has(canvas, artery):
        wanted = ",".join(str(int(colors[artery][n : n + 2], 16)) for n in (1, 3, 5))
        return wanted in page.evaluate(vivid, canvas)

    assert (has("readingA", "LM"), has("readingA", "RCA")) == (True, False)
    assert (has("readingB", "LM"), has("readingB", "RCA")) == (False, True)
    page.locator("#readingA").click()
    box = page.locator("#readingB").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 20, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    before = reader.slice()
    page.mouse.wheel(0, -100)
    assert reader.slice() == before + 1
    assert reader.version == 0
    page.locator("#beside").click()
    assert page.locator("#readingA").is_hidden()
    assert page.locator("#coronal").is_visible()
    reader.key("r")
    assert page.locator("#readingA").is_visible()
    assert page.locator("#beside").get_attribute("aria-pressed") == "true"
    reader.close()


def test_the_words_and_marks_of_the_queue_are_there_for_who_does_not_see(browser, unedited):
    reader = Reader(browser, unedited)
    table = reader.page.get_by_role("table", name="Lesions; the button of a row shows the lesion and changes nothing")
    assert table.get_by_role("row").count() == 3
    assert "undecided" in table.get_by_role("row").nth(1).inner_text()
    assert reader.page.get_by_role("status").inner_text() == reader.server.state()["lines"][0]
    assert reader.page.get_by_role("img", name="Axial image: slice").count() == 1
    reader.close()


def test_an_undecided_lesion_is_hatched_and_a_decided_one_is_not(browser, unedited):
    reader = Reader(browser, unedited)
    reader.page.locator("#axial").focus()
    reader.key("f")

    def colors(j0, i0):
        points = [(j0 + a / 8, i0 + b / 8) for a in range(-3, 4) for b in range(-3, 4)]
        return {tuple(pixels(reader, "#axial", j, i)) for j, i in points}

    reader.go_to_slice(6)
    assert any(r > g + 60 and r > b + 60 for r, g, b in colors(18, 16)), "lines of the RCA's vermilion"
    reader.go_to_slice(9)
    assert all(max(rgb) - min(rgb) < 30 for rgb in colors(15, 23)), "gray as the scan is"
    reader.key("t")
    reader.go_to_slice(6)
    assert all(max(rgb) - min(rgb) < 30 for rgb in colors(18, 16)), "lesions can be hidden"
    reader.close()


def test_a_slab_shows_the_brightest_of_its_slices(browser, unedited):
    reader = Reader(browser, unedited)
    reader.page.locator("#axial").focus()
    reader.key("f", "t")
    reader.page.locator("#window").select_option("bone")
    reader.go_to_slice(11)
    dark = pixels(reader, "#axial", 15, 13)
    reader.page.locator("#slab").select_option("10")
    assert "Acts on all 3 slices that are shown" in reader.text("#mode")
    assert reader.text("#place1").startswith("Slices 11–13 of 20")
    assert re.fullmatch(r"-?\d+ HU in slice 12(, lesion .*)?", reader.text("#place2"))
    bright = pixels(reader, "#axial", 15, 13)
    assert bright[0] > dark[0] + 20, "300 HU of slice 13 over heart"
    assert bright[0] == pytest.approx((300 + 400) / 2000 * 255, abs=2)
    reader.close()


def test_window_zoom_and_crosshair_by_the_mouse(browser, unedited):
    reader = Reader(browser, unedited)
    reader.page.locator("#axial").focus()
    reader.key("f")
    before = reader.text("#windowText")
    reader.drag((20, 20), (20, 28), button="right")
    assert reader.text("#windowText") != before
    assert reader.page.locator("#window").input_value() == "own"
    reader.key("w")
    assert reader.text("#windowText") == "-200 to 500 HU"
    k = reader.slice()
    reader.page.mouse.wheel(0, -100)
    assert reader.slice() == k + 1
    box = reader.page.locator("#coronal").bounding_box()
    reader.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 1.5)
    assert reader.slice() == 9, "below the middle of 20 slices, head up"
    assert reader.server.state()["version"] == 0
    reader.close()


def test_a_wheel_turns_slices_up_and_down_and_a_touchpad_not_one_with_each_event(browser, unedited):
    reader = Reader(browser, unedited)
    reader.go_to_slice(4)
    turn = """([events, gap]) => events.reduce((before, [deltaX, deltaY, deltaMode = 0]) => before.then(() => {
      const event = new WheelEvent("wheel", { deltaX, deltaY, deltaMode, bubbles: true, cancelable: true });
      document.getElementById("axial").dispatchEvent(event);
      return new Promise((done) => setTimeout(done, gap));
    }), Promise.resolve())"""

    def turned(events, gap=0):
        reader.page.wait_for_timeout(250)  # the wheel rests
        before = reader.slice()
        reader.page.evaluate(turn, [events, gap])
        return reader.slice() - before

    assert turned([(-80, 0)] * 3) == 0, "sideways"
    assert turned([(0, -100)] * 3) == 3, "a wheel's notches"
    assert turned([(0, 3, 1)]) == -1, "three lines are a notch"
    assert turned([(0, -4)] * 21) == 3, "84 px of a touchpad: at once, after 40 and after 80"
    assert turned([(0, -4)] * 5 + [(0, 4)] * 2) == 0, "there and back"
    assert turned([(0, -4)] * 2, gap=250) == 2, "a wheel of small notches, turned slowly"
    reader.close()


def test_a_browser_that_keeps_nothing_shows_the_page(browser, unedited):
    context = browser.new_context()
    context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('kept from', 'SecurityError'); } });"
    )
    page = context.new_page()
    page.goto(unedited.address)
    page.locator("[data-ready=yes]").wait_for()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "light"
    context.close()


@pytest.mark.parametrize(
    "missing",
    ["HTMLCanvasElement.prototype.getContext = () => null", "delete window.ResizeObserver", "delete window.Path2D"],
)
def test_a_browser_that_cannot_draw_says_so_in_a_sentence_and_asks_for_no_case(browser, unedited, missing):
    context = browser.new_context()
    context.add_init_script(missing)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(unedited.address)
    page.locator("#alert:not([hidden])").wait_for()
    told = page.locator("#alertText").inner_text()
    assert told == "This browser cannot draw the images (Canvas 2-D); open the page in a current one."
    assert page.locator("#page").is_hidden()
    assert [url for url in asked if "/api/" in url] == []
    context.close()


def test_a_name_with_markup_is_a_name(browser, case):
    with Server("--identify", case) as server:
        reader = Reader(browser, server)
        assert NAME.partition("^")[0] in reader.text("#case")
        assert reader.page.locator("script").count() == 1
        reader.close()


def test_two_fingers_go_through_the_slices_and_zoom(browser, unedited):
    reader = Reader(browser, unedited, (820, 1180), has_touch=True)
    reader.page.locator("#axial").focus()
    reader.key("f")
    k = reader.slice()
    box = reader.page.locator("#axial").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    plug = reader.context.new_cdp_session(reader.page)

    def touch(kind, *points):
        fingers = [{"x": a, "y": b, "id": n} for n, (a, b) in enumerate(points)]
        plug.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (x - 30, y), (x + 30, y))
    touch("touchMove", (x - 30, y - 20), (x + 30, y - 20))
    touch("touchEnd")
    assert reader.slice() == k + 1
    assert reader.server.state()["version"] == 0
    reader.close()
