"""The report in headless Chromium, opened from disk."""

import http.server
import json
import threading

import pytest

from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.reports.page.example_study import HOSTILE_RESPONSE, ODD_CLASS

pytestmark = [pytest.mark.slow, needs_chromium]
READY = "['clips', 'comparison', 'maps', 'reliability', 'examples'].every((id) => document.getElementById(id).dataset.ready)"


class ReportPage(BrowserPage):
    """A report in a browser."""

    def open_report(self, url: str, width: int = 1400) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.open(url)
        self.wait_until(READY)

    def scroll_to(self, selector: str) -> None:
        """Scroll to the element that a selector matches."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")

    def point_at(self, selector: str) -> None:
        """Move the mouse over the element that a selector matches."""
        self.scroll_to(selector)
        x, y = self.evaluate(
            f"(() => {{const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def select_option(self, select: str, text: str) -> None:
        """Select the option that begins with a text."""
        self.evaluate(
            f"(() => {{const s = document.querySelector({json.dumps(select)});"
            f"s.value = [...s.options].find((o) => o.textContent.startsWith({json.dumps(text)})).value;"
            "s.dispatchEvent(new Event('change'))})()"
        )

    def scroll_and_click(self, selector: str) -> None:
        self.scroll_to(selector)
        self.click(selector)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = ReportPage(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module", params=["folder_report", "single_file_report"])
def page(request, browser):
    """The opened report; at the end it has logged nothing and requested only local files."""
    browser.logged.clear()
    browser.requested.clear()
    browser.open_report(request.getfixturevalue(request.param).as_uri())
    yield browser
    assert browser.logged == []
    assert {url.partition(":")[0] for url in browser.requested} <= {"file", "data", "blob"}
    assert any(url.startswith("file:") for url in browser.requested)


def shown_cards(page, gallery: str) -> list[dict]:
    """Wait until the audio and images of a gallery are loaded, and return the content of its cards."""
    return page.wait_until(
        f"""(() => {{
            const cards = [...document.querySelectorAll("{gallery} .card")];
            const contents = cards.map((card) => ({{
                clip: Number(card.dataset.clip), label: card.querySelector("h4").textContent,
                predictions: [...card.querySelectorAll(".prediction .badge")].map((badge) => badge.textContent),
                seconds: card.querySelector("audio").duration, width: card.querySelector("img").naturalWidth,
                response: card.querySelector("blockquote")?.textContent ?? null, text: card.textContent,
                scores: [...card.querySelectorAll(".scores li .number")].map((n) => Number(n.textContent)),
            }}));
            return contents.length && contents.every((card) => card.seconds > 0 && card.width > 0) ? contents : null;
        }})()"""
    )


def cell_selector(page, label: str, predicted: str) -> str:
    """Return the CSS selector of a confusion cell; outcomes without a label are numbers below 0."""
    number = page.evaluate(
        f"[core.classes.indexOf({json.dumps(label)}), core.classes.indexOf({json.dumps(predicted)})]"
    )
    column = {"(unparseable)": -1, "(error)": -3}.get(predicted, number[1])
    return f'#confusion button[data-label="{number[0]}"][data-predicted="{column}"]'


def test_a_confusion_cell_shows_its_clips_with_audio_and_scores(page):
    page.select_option("#clips-run", "audio_model")
    page.wait_until("document.querySelectorAll('#confusion button:not(:disabled)').length === 5")
    page.scroll_and_click(cell_selector(page, ODD_CLASS, "rain"))  # predict_audio_model predicts rain for all six
    page.wait_until("document.querySelector('#clips-selection').textContent.startsWith('6 clips of ')")
    cards = shown_cards(page, "#clips-gallery")
    assert len(cards) == 6
    for card in cards:
        assert card["label"] == ODD_CLASS and card["predictions"] == ["✗ rain"]
        assert card["seconds"] == pytest.approx(1.0, abs=0.2)  # MP3 is padded to whole frames
        assert card["scores"] == [0.7, *[0.075] * 4]
        assert "this classifier receives audio, not this image" in card["text"]


def test_a_response_is_shown_verbatim_and_is_not_executed(page):
    page.select_option("#clips-run", "image_model (generation)")
    page.wait_until("document.querySelectorAll('#confusion th').length === 12")  # two more columns than classes
    column = cell_selector(page, "dog", "(unparseable)").split("][")[-1]
    page.scroll_and_click(f"#confusion button[{column}:not(:disabled)")
    page.wait_until("document.querySelector('#clips-selection').textContent.includes('(unparseable)')")
    for card in shown_cards(page, "#clips-gallery"):
        assert card["response"] == HOSTILE_RESPONSE and card["predictions"] == ["✗ (unparseable)"]
        assert "the model received" in card["text"]
    assert page.evaluate("window.broken === undefined")


def test_the_cells_are_reached_by_keyboard(page):
    page.select_option("#clips-run", "audio_model")
    page.wait_until("document.querySelectorAll('#confusion button:not(:disabled)').length === 5")
    page.evaluate("document.querySelector('#confusion button[tabindex=\"0\"]').focus()")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "6 of chainsaw classified as chainsaw"
    page.press("ArrowRight")  # the next cell with a number
    assert (
        page.evaluate("document.activeElement.getAttribute('aria-label')") == "6 of clock_tick classified as clock_tick"
    )
    page.evaluate("document.activeElement.click()")
    page.wait_until(
        "document.querySelector('#clips-selection').textContent === '6 clips of clock_tick that audio_model classified as clock_tick'"
    )


def test_a_link_in_a_key_finding_shows_its_clips(page):
    page.scroll_and_click("#key-findings a.show[data-only=hard]")
    page.wait_until("document.querySelector('#clips-selection').textContent === '2 clips that every model gets wrong'")
    assert {card["label"] for card in shown_cards(page, "#clips-gallery")} == {ODD_CLASS}


def test_pointing_at_a_map_shows_the_image_and_a_click_plays(page):
    page.evaluate("document.querySelector('#tip').hidden = true")
    page.point_at("#maps .map path[data-clip='3']")
    page.wait_until("!document.querySelector('#tip').hidden && document.querySelector('#tip img')?.naturalWidth > 0")
    clip = page.evaluate("Number(document.querySelector('.map .at').dataset.clip)")
    assert page.evaluate("document.querySelectorAll('.map .at').length") == 4  # the same clip on every map
    page.click("#maps .map path.at")
    (card,) = shown_cards(page, "#maps-clip")
    assert card["clip"] == clip
    page.wait_until("document.querySelector('#maps-clip audio').currentTime > 0")


def test_two_classifiers_are_compared(page):
    page.select_option("#comparison-first", "audio_model")
    page.select_option("#comparison-second", "image_model (likelihood)")
    counts = page.evaluate("[...document.querySelectorAll('#comparison-groups b')].map((b) => Number(b.textContent))")
    # of 30 clips audio_model misses the 6 of one class, image_model every third (10); two are both: numbers 9 and 24 of 8, 9, 18, ...
    assert counts == [8, 4, 16, 2]
    page.scroll_and_click("#comparison-groups button:nth-child(2)")
    page.wait_until("document.querySelector('#comparison-selection').textContent.startsWith('4 clips')")
    cards = shown_cards(page, "#comparison-gallery")
    assert [card["predictions"] for card in cards] == [["✗ rain", f"✓ {ODD_CLASS}"]] * 4


def test_examples_have_the_order_of_the_prompt(page):
    labels = page.evaluate("[...document.querySelectorAll('#examples-images b')].map((b) => b.textContent)")
    assert labels == ["dog", "dog", "rain", "rain", "clock_tick"]
    page.wait_until("[...document.querySelectorAll('#examples-images img')].every((i) => i.naturalWidth > 0)")


def test_every_control_and_image_has_an_accessible_name(page):
    nameless = """[...document.querySelectorAll("button, a, select, audio, img, svg[role], [role=img]")].filter((e) =>
        !(e.textContent.trim() || e.getAttribute("aria-label") || e.getAttribute("alt") !== null
          || (e.id && document.querySelector(`label[for="${e.id}"]`)))).map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.evaluate("document.querySelectorAll('h1').length") == 1


def test_nothing_can_be_fetched_from_the_page(page):
    hits = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    before = len(page.logged), len(page.requested)
    page.evaluate(f"fetch('{url}').catch(() => 0)")
    page.evaluate(f"new Promise((done) => {{const i = new Image(); i.onload = i.onerror = done; i.src = '{url}'}})")
    server.shutdown()
    server.server_close()
    assert hits == []
    assert any("Content Security Policy" in line for line in page.logged[before[0] :])
    del page.logged[before[0] :], page.requested[before[1] :]


@pytest.mark.parametrize("width", [1400, 420])
def test_the_page_does_not_scroll_sideways(page, folder_report, width):
    page.open_report(folder_report.as_uri(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
