"""The report in headless Chromium, opened from disk."""

import http.server
import json
import threading

import numpy as np
import pytest

from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.reports.page.example_study import CLASSES, HOSTILE_REASONING, HOSTILE_RESPONSE, ODD_CLASS
from vlm_audio_pipeline_tests.reports.page.oklab import oklab

pytestmark = [pytest.mark.slow, needs_chromium]
READY = "['one-clip', 'leaderboard', 'clips', 'comparison', 'maps', 'reliability', 'prompts'].every((id) => document.getElementById(id).dataset.ready)"


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


def test_many_classes_have_a_list_of_their_confusions(page):
    """Cells of a matrix with more than 20 columns are small; its most frequent errors also stand in a list."""
    texts = page.evaluate(
        """(() => { const counts = new Map([[0, new Map([[0, 9], [1, 2]])], [2, new Map([[1, 5], [-1, 1]])]]);
            const list = confusionList(counts, (cell) => (window.selectedCell = cell));
            list.querySelectorAll("button")[0].click();
            return [...list.querySelectorAll("button")].map((b) => b.textContent); })()"""
    )
    names = page.evaluate("core.classes")
    assert texts == [f"{names[2]} → {names[1]}: 5", f"{names[0]} → {names[1]}: 2", f"{names[2]} → (unparseable): 1"]
    assert page.evaluate("window.selectedCell") == {"label": 2, "predicted": 1}


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
    page.wait_until(
        "document.querySelector('#clips-selection').textContent === '2 clips that every classifier gets wrong'"
    )
    assert {card["label"] for card in shown_cards(page, "#clips-gallery")} == {ODD_CLASS}


def test_pointing_at_a_map_shows_the_image_and_a_click_plays(page):
    page.evaluate("document.querySelector('#tip').hidden = true")
    page.point_at("#maps .map path[data-clip='3']")
    page.wait_until("!document.querySelector('#tip').hidden && document.querySelector('#tip img')?.naturalWidth > 0")
    clip = page.evaluate("Number(document.querySelector('.map .marked').dataset.clip)")
    assert page.evaluate("document.querySelectorAll('.map .marked').length") == 4  # the same clip on every map
    page.click("#maps .map path.marked")
    (card,) = shown_cards(page, "#maps-clip")
    assert card["clip"] == clip
    page.wait_until("document.querySelector('#maps-clip audio').currentTime > 0")


def test_tips_are_inside_the_window_at_first_hover(page):
    """The image of a tip is loaded when the mouse is first over its mark, so the height of the tip is not known before."""
    for clip in range(10, 18):
        mark = f"#maps .map path[data-clip='{clip}']"
        page.evaluate(
            f'(() => {{const m = document.querySelector("{mark}"); scrollBy(0, m.getBoundingClientRect().y - innerHeight + 100);'
            "document.querySelector('#tip').hidden = true}})()".replace("}}", "}")
        )
        x, y = page.evaluate(
            f'(() => {{const b = document.querySelector("{mark}").getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]}})()'
        )
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        page.wait_until(
            "!document.querySelector('#tip').hidden && document.querySelector('#tip img')?.naturalWidth > 0"
        )
        box = page.evaluate(
            "(() => {const b = document.querySelector('#tip').getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom, b.height]})()"
        )
        width, height = page.evaluate("[innerWidth, innerHeight]")
        assert box[4] > 150, "the tip has its image"
        assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)


def test_the_legend_of_correct_and_wrong(page):
    legend = "[...document.querySelectorAll('#maps-legend .key')].map((k) => [k.textContent, getComputedStyle(k.querySelector('path')).fill])"
    classes = page.evaluate(legend)
    assert sorted(text for text, _ in classes) == sorted(f"{label}6" for label in CLASSES)
    assert len({fill for _, fill in classes}) == 5
    page.select_option("#maps-colour", "correct or wrong: audio_model")
    keys = page.evaluate(legend)
    assert [text for text, _ in keys] == ["correct24", "wrong6"]  # it is wrong for every clip of one class
    fills = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.map')[0].querySelectorAll('path')].map((m) => [m.dataset.clip, getComputedStyle(m).fill]))"
    )
    labels = page.evaluate("core.labels.map((l) => core.classes[l])")
    assert fills == {str(i): keys[label == ODD_CLASS][1] for i, label in enumerate(labels)}
    page.evaluate("document.querySelectorAll('#maps-legend .key')[1].click()")
    assert page.evaluate("document.querySelectorAll('.map')[0].querySelectorAll('path:not(.dim)').length") == 6
    page.evaluate(
        "(() => {const s = document.querySelector('#maps-colour'); s.value = 'class'; s.dispatchEvent(new Event('change'))})()"
    )
    assert page.evaluate(legend) == classes


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fifty_classes_have_fifty_colours(page, scheme):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    rgb = page.evaluate(
        """(() => { const classes = core.classes; core.classes = Array.from({ length: 50 }, (_, i) => String(i));
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true }), probe = document.body.appendChild(document.createElement("p"));
            const colours = core.classes.map((_, i) => { probe.style.color = classColour(i); canvas.fillStyle = getComputedStyle(probe).color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); });
            core.classes = classes; probe.remove(); return colours; })()"""
    )
    page.send("Emulation.setEmulatedMedia", features=[])
    lab = oklab(np.array(rgb) / 255)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(50, 1)]
    assert distances.min() > 0.02  # about a just noticeable difference in OKLab


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


def test_a_prompt_has_its_examples_in_their_order(page):
    assert page.evaluate("[...document.querySelectorAll('#prompts-request option')].map((o) => o.textContent)") == [
        *("clips of fold 1", "clips of folds 2, 3"),  # the example study gives folds 2 and 3 the same examples
    ]
    turns = page.evaluate(
        "[...document.querySelectorAll('#prompts-turns .turn')].map((t) => t.className.split(' ')[1])"
    )
    assert turns == ["system", *["user", "assistant"] * 5, "user"]
    labels = page.evaluate("[...document.querySelectorAll('#prompts-turns .assistant p')].map((p) => p.textContent)")
    assert labels == ["dog", "dog", "rain", "rain", "clock_tick"]
    assert page.evaluate(
        "core.classes.every((c) => document.querySelector('#prompts-turns .user p').textContent.includes(c))"
    )
    page.evaluate("document.querySelector('#prompts details').open = true")
    for number in range(5):
        page.scroll_to(
            f"#prompts-turns .user:nth-child({2 + 2 * number}) img"
        )  # images are loaded when they come into view
    page.wait_until(
        "[...document.querySelectorAll('#prompts-turns img')].every((i) => i.complete && i.naturalWidth > 0)"
    )
    # the example study has invented keys, so no request can be the one that was sent
    assert "Checked for 0 of 90 responses: this is exactly what was sent" in page.evaluate(
        "document.querySelector('#prompts-note').textContent"
    )


def test_a_transcript_has_the_request_the_reasoning_and_the_response(page):
    page.select_option("#clips-run", "image_model (generation)")
    page.evaluate("document.querySelector('#clips-all').click()")
    page.wait_until("document.querySelector('#clips-selection').textContent === '30 clips'")
    page.wait_until("document.querySelector('#clips-gallery .transcript') !== null")
    page.evaluate("document.querySelector('#clips-gallery .transcript').open = true")
    page.wait_until("document.querySelector('#clips-gallery .transcript .response') !== null")
    turns = page.evaluate(
        "[...document.querySelector('#clips-gallery .transcript').querySelectorAll('.turn')].map((t) => [t.className.split(' ')[1], t.textContent])"
    )
    assert [name for name, _ in turns] == ["system", *["user", "assistant"] * 5, "user", "reasoning", "response"]
    is_single_file = page.evaluate("isSingleFile")
    reasoning = turns[-2][1].removeprefix("reasoning")
    assert (reasoning == HOSTILE_REASONING) != is_single_file
    if is_single_file:  # the first 2,000 characters
        assert reasoning.startswith(HOSTILE_REASONING[:2000] + " … (") and "more characters" in reasoning
    assert turns[-1][1].startswith("responseIt is ")
    assert page.evaluate("window.broken === undefined")


def test_the_clip_at_the_top_has_its_image_audio_and_answers(page):
    top = "document.querySelector('#one-clip-view')"
    page.wait_until(f"{top}.querySelector('img').naturalWidth > 0 && {top}.querySelector('audio').duration > 0")
    lines = page.evaluate(
        f"[...{top}.querySelectorAll('tbody tr')].map((r) => [...r.children].map((c) => c.firstChild.textContent))"
    )
    by_name = {line[0].split(" (")[0]: line[1:] for line in lines if len(line) > 1}
    assert set(by_name) == {"image_model", "audio_model", "annotators"}
    label = page.evaluate("core.classes[core.labels[core.first_clip]]")
    assert by_name["annotators"] == [f"✓ {label}", "no control"]  # two of three annotators are correct
    heads = page.evaluate(f"[...{top}.querySelectorAll('thead th')].map((h) => h.textContent)")
    assert heads == ["classifier", "answer", "if blank"]
    page.evaluate("Math.random = () => 0.99; document.querySelector('#one-clip-next').click()")
    page.wait_until(f"{top}.textContent.includes('3-sea_waves-1')")  # the last of 30 clips


def board_names(page) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('#board tbody tr')].filter((r) => !r.hidden).map((r) => r.dataset.name + ' ' + r.dataset.accuracy.slice(0, 4))"
    )


def test_the_leaderboard_is_sorted_and_filtered(page):
    ranked = board_names(page)
    assert ranked == [
        *("audio_model 0.8", "image_model 0.66", "image_model 0.46", "annotators 0.66", "chance 0.2"),
    ]
    page.scroll_and_click("#board th[data-sort=accuracy] button")
    assert board_names(page) == [ranked[0], ranked[1], ranked[3], ranked[2], ranked[4]]
    assert page.evaluate("document.querySelector('#board th[data-sort=accuracy]').ariaSort") == "descending"
    page.evaluate("document.querySelector('#board th[data-sort=accuracy] button').click()")
    assert board_names(page)[0] == "chance 0.2"
    page.evaluate("document.querySelector('#leaderboard .key.image').click()")
    assert board_names(page) == ["image_model 0.46", "image_model 0.66"]
    assert page.evaluate("document.querySelector('#board-count').textContent") == "2 of 5 rows"
    page.evaluate("document.querySelector('#leaderboard .key.image').click()")
    page.evaluate(
        "(() => {const f = document.querySelector('#board-find'); f.value = 'LIKELI'; f.dispatchEvent(new Event('input'))})()"
    )
    assert board_names(page) == ["image_model 0.66"]
    page.evaluate(
        "(() => {const f = document.querySelector('#board-find'); f.value = ''; f.dispatchEvent(new Event('input'))})()"
    )
    page.evaluate("document.querySelector('#board th[data-sort=rank] button').click()")
    assert board_names(page) == ranked


def test_the_cards_are_filtered_and_sorted(page):
    def choose(name: str, value: str) -> str:
        page.evaluate(
            f"(() => {{const f = document.querySelector('#clips-{name}'); f.value = {json.dumps(value)}; f.dispatchEvent(new Event('input'))}})()"
        )
        return page.wait_until("document.querySelector('#clips-selection').textContent")

    page.select_option("#clips-run", "image_model (likelihood)")
    page.evaluate("document.querySelector('#clips-all').click()")
    page.wait_until("document.querySelector('#clips-selection').textContent === '30 clips'")
    choose("only", "wrong")  # every third
    page.wait_until(
        "document.querySelector('#clips-selection').textContent === '10 clips that image_model (likelihood) gets wrong'"
    )
    choose("find", "rain")
    title = "2 clips that image_model (likelihood) gets wrong and contain “rain” in the name or the response"
    page.wait_until(f"document.querySelector('#clips-selection').textContent === {json.dumps(title)}")
    choose("find", "")
    choose("only", "")
    choose("order", "hardest")
    page.wait_until("document.querySelector('#clips-selection').textContent === '30 clips'")
    first = shown_cards(page, "#clips-gallery")[:2]
    assert {card["label"] for card in first} == {ODD_CLASS}  # the two clips that every classifier gets wrong
    choose("order", "clip")


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


def test_images_without_axes_have_them_beside(page):
    """The example's images show 1 s at 16 kHz, that is 0 to 8 kHz, on a linear axis."""
    page.wait_until("document.querySelector('#one-clip-view .framed img')?.naturalWidth > 0")
    texts = """(selector) => [...document.querySelectorAll('#one-clip-view .framed ' + selector)].map((e) => e.textContent)"""
    assert page.evaluate(f"({texts})('.row-name')") == ["frequency (kHz)"]
    assert page.evaluate(f"({texts})('.time-name')") == ["time (s)"]
    assert page.evaluate(f"({texts})('.row-ticks span')") == ["0", "2", "4", "6", "8"]
    assert page.evaluate(f"({texts})('.time-ticks span')") == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    middle = """(() => { const box = (s) => document.querySelector('#one-clip-view .framed ' + s).getBoundingClientRect();
        const image = box('img'), tick = box('.row-ticks span:nth-child(3)');
        return (tick.top + tick.height / 2 - image.top) / image.height; })()"""
    assert page.evaluate(middle) == pytest.approx(0.5, abs=0.03)  # 4 of 8 kHz
    page.scroll_and_click("#one-clip-view .zoom")
    assert page.evaluate("document.querySelector('#zoom .row-name').textContent") == "frequency (kHz)"
    page.evaluate("document.querySelector('#zoom').close()")


def test_intervals_and_calibration_have_numbers(page):
    ticks = page.evaluate(
        "[...document.querySelectorAll('#contrasts .heading .ticks span')].map((e) => [Number(e.textContent), parseFloat(e.style.left)])"
    )
    assert [number for number, _ in ticks] == [-60, -40, -20, 0, 20, 40, 60]  # the widest interval ends at 70 points
    slopes = {round((place - 50) / number, 2) for number, place in ticks if number}
    assert len(slopes) == 1, "ticks at equal distances from zero in the middle"
    point, interval = page.evaluate(
        "(() => { const t = document.querySelectorAll('#contrasts .track')[1]; return ['dot', 'range'].map((c) => [parseFloat(t.querySelector('.' + c).style.left), t.querySelector('.' + c).offsetHeight]) })()"
    )
    assert point[0] == pytest.approx(50 + 100 * 14 / 30 * slopes.pop(), abs=0.3)
    assert interval[0] < point[0]
    counts = page.evaluate(
        "[...document.querySelector('#reliability svg').querySelectorAll('text.count')].map((e) => e.textContent)"
    )
    assert counts == ["3", "3", "3"]


def test_the_menu_marks_the_section_on_the_screen(page):
    links = page.evaluate("[...document.querySelectorAll('#links a')].map((a) => a.hash)")
    headings = page.evaluate("[...document.querySelectorAll('main section')].map((s) => '#' + s.id)")
    assert links == headings
    current = "[...document.querySelectorAll('#links a[aria-current]')].map((a) => a.hash)"
    for name in ("leaderboard", "quality", "provenance"):
        page.evaluate(f"document.querySelector('#{name} h2').scrollIntoView({{block: 'start', behavior: 'instant'}})")
        page.wait_until(f"String({current}) === '#{name}'")
    assert page.evaluate("document.querySelector('#menu').offsetParent") is None  # the links are visible


def test_the_menu_fits_in_one_line_of_1280_pixels(page, folder_report):
    page.open_report(folder_report.as_uri(), width=1280)
    tops = page.evaluate("[...document.querySelectorAll('#links a')].map((a) => a.getBoundingClientRect().top)")
    assert len(tops) > 14
    assert len(set(tops)) == 1


def test_the_map_says_what_positions_and_colours_mean(page):
    legend = "document.querySelector('#maps-legend').textContent"
    assert "Positions: the embedding of the clip" in page.evaluate(legend)
    assert "Colours and shapes: the true class of the clip" in page.evaluate(legend)
    captions = page.evaluate("[...document.querySelectorAll('#maps figcaption')].map((c) => c.textContent)")
    assert captions[0].startswith("Positions: embeddings of audio_encoder, projected by PCA")
    page.select_option("#maps-colour", "correct or wrong: audio_model")
    assert "Colours and shapes: whether audio_model classifies the clip correctly" in page.evaluate(legend)
    page.evaluate(
        "(() => {const s = document.querySelector('#maps-colour'); s.value = 'class'; s.dispatchEvent(new Event('change'))})()"
    )


def test_print_has_no_controls_and_a_white_background(page):
    page.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    shown = "[...document.querySelectorAll('nav, audio, .filters, .more, #one-clip-next')].filter((e) => e.getClientRects().length).length"
    assert page.evaluate(shown) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.send("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_scrolls_sideways_or_is_cut(page, folder_report, width):
    page.open_report(folder_report.as_uri(), width)
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll, nav, nav div')].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 200))"
    page.wait_until(f"!{wide}.length")
    if width == 420:
        assert page.evaluate(
            "[...document.querySelectorAll('.scroll > .plain-table')].every((t) => t.classList.contains('stacked'))"
        )
        title = page.evaluate(
            "getComputedStyle(document.querySelector('.answers td:nth-child(3)'), '::before').content"
        )
        assert title == '"if blank"'


def test_the_menu_opens_and_closes_by_keyboard(page, folder_report):
    page.open_report(folder_report.as_uri(), 420)
    page.evaluate("document.querySelector('#menu').focus()")
    visible = "document.querySelector('#links a').getClientRects().length"
    assert not page.evaluate(visible)
    for key, is_open in (("Enter", True), ("Escape", False)):
        page.send(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            windowsVirtualKeyCode={"Enter": 13, "Escape": 27}[key],
            text="\r" if key == "Enter" else "",
        )
        page.send("Input.dispatchKeyEvent", type="keyUp", key=key)
        assert bool(page.evaluate(visible)) == is_open
    assert page.evaluate("document.activeElement.id") == "menu"
