"""The report as a reader meets it: opened from disk in headless Chromium."""

import http.server
import json
import threading

import pytest

from vlm_audio_pipeline_tests.reports.chromium import Page, needs_chromium
from vlm_audio_pipeline_tests.reports.page.made import HOSTILE, ODD

pytestmark = [pytest.mark.slow, needs_chromium]
READY = "['clips', 'flips', 'maps', 'reliability', 'examples'].every((id) => document.getElementById(id).dataset.ready)"


class Reader(Page):
    """Someone who reads the page."""

    def look(self, url: str, width: int = 1400) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.open(url)
        self.until(READY)

    def to(self, selector: str) -> None:
        """Scroll to what a selector finds."""
        self.ask(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")

    def point(self, selector: str) -> None:
        """Move the mouse onto what a selector finds."""
        self.to(selector)
        x, y = self.ask(
            f"(() => {{const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def choose(self, select: str, text: str) -> None:
        """Choose the option that begins with a text."""
        self.ask(
            f"(() => {{const s = document.querySelector({json.dumps(select)});"
            f"s.value = [...s.options].find((o) => o.textContent.startsWith({json.dumps(text)})).value;"
            "s.dispatchEvent(new Event('change'))})()"
        )

    def press_on(self, selector: str) -> None:
        self.to(selector)
        self.click(selector)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    page = Reader(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module", params=["folder", "single"])
def page(request, reader):
    """The page, just opened; at the end nothing was logged and nothing but this machine's files asked for."""
    reader.logged.clear()
    reader.requested.clear()
    reader.look(request.getfixturevalue(request.param).as_uri())
    yield reader
    assert reader.logged == []
    assert {url.partition(":")[0] for url in reader.requested} <= {"file", "data", "blob"}
    assert any(url.startswith("file:") for url in reader.requested)


def cards(page, place: str) -> list[dict]:
    """Wait for cards whose sounds and pictures are loaded; gives what each shows."""
    return page.until(
        f"""(() => {{
            const cards = [...document.querySelectorAll("{place} .card")];
            const told = cards.map((card) => ({{
                clip: Number(card.dataset.clip), label: card.querySelector("h4").textContent,
                said: [...card.querySelectorAll(".said .badge")].map((badge) => badge.textContent),
                seconds: card.querySelector("audio").duration, width: card.querySelector("img").naturalWidth,
                answer: card.querySelector("blockquote")?.textContent ?? null, text: card.textContent,
                scores: [...card.querySelectorAll(".scores li .number")].map((n) => Number(n.textContent)),
            }}));
            return told.length && told.every((card) => card.seconds > 0 && card.width > 0) ? told : null;
        }})()"""
    )


def cell(page, label: str, given: str) -> str:
    """Give the selector of a confusion cell; outcomes without a label are numbers below 0."""
    number = page.ask(f"[core.classes.indexOf({json.dumps(label)}), core.classes.indexOf({json.dumps(given)})]")
    predicted = {"(unparseable)": -1, "(error)": -3}.get(given, number[1])
    return f'#confusion button[data-label="{number[0]}"][data-predicted="{predicted}"]'


def test_a_confusion_cell_shows_its_clips_with_sound_and_scores(page):
    page.choose("#clips-run", "hearer")
    page.until("document.querySelectorAll('#confusion button:not(:disabled)').length === 5")
    page.press_on(cell(page, ODD, "rain"))  # `made.hearer` calls all six of them rain
    page.until("document.querySelector('#picked').textContent.startsWith('6 clips of ')")
    shown = cards(page, "#clips-gallery")
    assert len(shown) == 6
    for card in shown:
        assert card["label"] == ODD and card["said"] == ["✗ rain"]
        assert card["seconds"] == pytest.approx(1.0, abs=0.2)  # MP3 is padded to whole frames
        assert card["scores"] == [0.7, *[0.075] * 4]
        assert "not shown to this classifier, which hears the sound" in card["text"]


def test_an_answer_is_shown_word_for_word_and_does_nothing(page):
    page.choose("#clips-run", "seer (generation)")
    page.until("document.querySelectorAll('#confusion th').length === 12")  # two more columns than classes
    column = cell(page, "dog", "(unparseable)").split("][")[-1]
    page.press_on(f"#confusion button[{column}:not(:disabled)")
    page.until("document.querySelector('#picked').textContent.includes('(unparseable)')")
    for card in cards(page, "#clips-gallery"):
        assert card["answer"] == HOSTILE and card["said"] == ["✗ (unparseable)"]
        assert "as sent" in card["text"]
    assert page.ask("window.broken === undefined")


def test_the_cells_are_reached_by_keys(page):
    page.choose("#clips-run", "hearer")
    page.until("document.querySelectorAll('#confusion button:not(:disabled)').length === 5")
    page.ask("document.querySelector('#confusion button[tabindex=\"0\"]').focus()")
    assert page.ask("document.activeElement.getAttribute('aria-label')") == "6 of chainsaw called chainsaw"
    page.press("ArrowRight")  # the next cell with a number
    assert page.ask("document.activeElement.getAttribute('aria-label')") == "6 of clock_tick called clock_tick"
    page.ask("document.activeElement.click()")
    page.until(
        "document.querySelector('#picked').textContent === '6 clips of clock_tick that hearer called clock_tick'"
    )


def test_a_sentence_leads_to_its_clips(page):
    page.press_on("#answers a.show[data-only=hard]")
    page.until("document.querySelector('#picked').textContent === '2 clips that every model misses'")
    assert {card["label"] for card in cards(page, "#clips-gallery")} == {ODD}


def test_pointing_at_a_map_shows_the_picture_and_a_click_plays(page):
    page.ask("document.querySelector('#tip').hidden = true")
    page.point("#maps .map path[data-clip='3']")
    page.until("!document.querySelector('#tip').hidden && document.querySelector('#tip img')?.naturalWidth > 0")
    clip = page.ask("Number(document.querySelector('.map .at').dataset.clip)")
    assert page.ask("document.querySelectorAll('.map .at').length") == 4  # the same clip on every map
    page.click("#maps .map path.at")
    (card,) = cards(page, "#maps-clip")
    assert card["clip"] == clip
    page.until("document.querySelector('#maps-clip audio').currentTime > 0")


def test_two_classifiers_differ_where_they_were_made_to(page):
    page.choose("#flips-first", "hearer")
    page.choose("#flips-second", "seer (likelihood)")
    counts = page.ask("[...document.querySelectorAll('#flips-groups b')].map((b) => Number(b.textContent))")
    # of 30 clips hearer misses the 6 of one class, seer every third (10); two are both: numbers 9 and 24 of 8, 9, 18, ...
    assert counts == [8, 4, 16, 2]
    page.press_on("#flips-groups button:nth-child(2)")
    page.until("document.querySelector('#flips-told').textContent.startsWith('4 clips')")
    shown = cards(page, "#flips-gallery")
    assert [card["said"] for card in shown] == [["✗ rain", f"✓ {ODD}"]] * 4


def test_examples_stand_in_the_order_in_which_they_were_shown(page):
    labels = page.ask("[...document.querySelectorAll('#examples-shown b')].map((b) => b.textContent)")
    assert labels == ["dog", "dog", "rain", "rain", "clock_tick"]
    page.until("[...document.querySelectorAll('#examples-shown img')].every((i) => i.naturalWidth > 0)")


def test_everything_has_a_name_for_those_who_do_not_see_it(page):
    nameless = """[...document.querySelectorAll("button, a, select, audio, img, svg[role], [role=img]")].filter((e) =>
        !(e.textContent.trim() || e.getAttribute("aria-label") || e.getAttribute("alt") !== null
          || (e.id && document.querySelector(`label[for="${e.id}"]`)))).map((e) => e.outerHTML)"""
    assert page.ask(nameless) == []
    assert page.ask("document.querySelectorAll('h1').length") == 1


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
    page.ask(f"fetch('{url}').catch(() => 0)")
    page.ask(f"new Promise((done) => {{const i = new Image(); i.onload = i.onerror = done; i.src = '{url}'}})")
    server.shutdown()
    server.server_close()
    assert hits == []
    assert any("Content Security Policy" in line for line in page.logged[before[0] :])
    del page.logged[before[0] :], page.requested[before[1] :]


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_sticks_out_sideways(page, folder, width):
    page.look(folder.as_uri(), width)
    assert page.ask("document.documentElement.scrollWidth") <= width
