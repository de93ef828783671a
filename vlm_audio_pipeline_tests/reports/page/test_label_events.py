"""Events on the page of a multi-label study: their rows, and the page in headless Chromium."""

import json

import pytest

from vlm_audio_pipeline.planning.report_page import update_report_page, write_single_file
from vlm_audio_pipeline.reports.page import label_events
from vlm_audio_pipeline.reports.page.label_events import PageEvent
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.reports.page.label_study import EVENTS, FOX, run_field_study

READY = "['events', 'clips'].every((id) => document.getElementById(id).dataset.ready)"


class Results:
    """Three clips of one recording."""

    clips = ({"clip": "a"}, {"clip": "b"}, {"clip": "c"})


@pytest.mark.parametrize(
    ("decisions", "status"),
    [
        ({("a", "owl"): [True, False, None], ("b", "owl"): [False, False, None]}, "10-"),  # one clip is enough
        ({("b", "owl"): [None, True, False]}, "-10"),
        ({("c", "owl"): [True, True, True]}, "nnn"),  # no clip of the event has its class
    ],
)
def test_a_run_finds_an_event_if_it_predicts_the_class_in_one_of_its_clips(decisions, status):
    event = PageEvent("r.wav", 1, "owl", 0.0, 1.0, None, None, (0, 1))
    assert label_events._status(Results, event, decisions, 3) == status


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run_field_study(tmp_path_factory.mktemp("field"))


@pytest.fixture(scope="module", params=["folder", "single file"])
def page(request, study, tmp_path_factory):
    """The opened page; at the end it has logged nothing and requested only local files."""
    if request.param == "folder":
        file = update_report_page(study)
    else:
        file = tmp_path_factory.mktemp("single") / "field.html"
        write_single_file(study, file)
    browser = BrowserPage(tmp_path_factory.mktemp("profile"))
    browser.open(file.as_uri())
    browser.wait_until(READY)
    yield browser
    logged, requested = browser.logged, browser.requested
    browser.close()
    assert logged == []
    assert {url.partition(":")[0] for url in requested} <= {"file", "data", "blob"}


def select(page, name, label, start):
    """Click the bar of an event and wait until its segment is shown."""
    text = f"{label}, {start}"
    page.evaluate(
        f"[...document.querySelectorAll('.event-bar')].find((bar) => bar.getAttribute('aria-label').startsWith({json.dumps(text)}) && "
        f"bar.getAttribute('aria-label').includes({json.dumps(name)})).id = 'wanted'"
    )
    page.evaluate("document.querySelector('#wanted').scrollIntoView({block: 'center'})")
    page.click("#wanted")
    page.evaluate("document.querySelector('#wanted').removeAttribute('id')")
    page.wait_until(f"document.querySelector('#event-title').textContent.startsWith({json.dumps(text)})")


def frames(page):
    """Return the class and the line style of each box over the selected segment."""
    return page.evaluate(
        "[...document.querySelectorAll('#event-view .event-box')].map((box) => [box.textContent, getComputedStyle(box).borderTopStyle])"
    )


@pytest.mark.slow
@needs_chromium
def test_an_event_shows_its_segment_with_boxes_audio_and_decisions(page, study):
    select(page, "a.wav", "owl", "2.50")
    page.wait_until("document.querySelector('#event-view img').naturalWidth > 0")
    assert "Segment 2.00 to 4.00 s of a.wav" in page.evaluate("document.querySelector('#event-view').textContent")
    box, image = page.evaluate(
        "['.event-box[aria-current]', 'img'].map((s) => document.querySelector('#event-view ' + s).getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])"
    )
    width, height = image[2] - image[0], image[3] - image[1]
    # Recording at 8 kHz: the window of 30 ms is 256 samples, the hop 64 samples or 8 ms. A segment of 2 s has 251 columns, whose cells reach
    # from -4 ms to 2.004 s. The event is from 0.5 to 1.5 s in the segment.
    assert (box[0] - image[0]) / width == pytest.approx((0.5 + 0.004) / 2.008, abs=1 / width)
    assert (box[2] - image[0]) / width == pytest.approx((1.5 + 0.004) / 2.008, abs=1 / width)
    # 129 rows of 31.25 Hz reach from -15.625 to 4015.625 Hz. The event is from 1000 to 3000 Hz; the top of the image is 4015.625 Hz.
    assert (image[3] - box[3]) / height == pytest.approx((1000 + 15.625) / 4031.25, abs=1 / height)
    assert (image[3] - box[1]) / height == pytest.approx((3000 + 15.625) / 4031.25, abs=1 / height)
    # The other event of the segment has a box, too; its name is text.
    assert page.evaluate("[...document.querySelectorAll('#event-view .event-box span')].map((s) => s.textContent)") == [
        FOX,
        "owl",
    ]
    assert frames(page) == [[FOX, "solid"], ["owl", "solid"]]  # dashed means in the legend that nobody finds it
    assert "dotted frame" not in page.evaluate("document.querySelector('#event-view figure').textContent")
    assert page.wait_until("document.querySelector('#event-view audio').duration") == pytest.approx(2, abs=0.2)
    rows = page.evaluate(
        "[...document.querySelectorAll('.event-decisions tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert [row[0] for row in rows] == ["nearest", "listing (generation)"]
    stored = query(
        study.data_folder,
        "SELECT classifier, truth, predicted, score, threshold FROM multi_label_predictions WHERE clip = 'a@00002.000-00004.000' AND label = 'owl'",
    )
    for decision in stored.to_pylist():
        assert decision["truth"]
        (row,) = (row for row in rows if row[0].startswith(decision["classifier"]))
        assert row[1] == ("✓ found" if decision["predicted"] else "✗ missed")
        if decision["classifier"] == "nearest":
            assert [float(row[2]), float(row[3])] == pytest.approx([decision["score"], decision["threshold"]], abs=5e-4)
        else:
            assert row[2:4] == ["no score", "no threshold"]
    response = query(study.data_folder, "SELECT text FROM responses WHERE clip = 'a@00002.000-00004.000'")["text"][
        0
    ].as_py()
    assert page.evaluate("document.querySelector('.response blockquote').textContent") == response
    assert not page.evaluate("document.querySelector('.response').open")
    assert page.evaluate("document.querySelectorAll('#event-view b b, #event-title b').length") == 0


@pytest.mark.slow
@needs_chromium
def test_the_keyboard_selects_an_event_and_a_short_overlap_is_explained(page):
    select(page, "a.wav", FOX, "1.80")
    page.evaluate("document.querySelector('.event-bar[aria-current]').focus()")
    page.press("ArrowRight")  # the next event of the recording
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("owl, 2.50")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    page.send("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    page.wait_until("document.querySelector('#event-title').textContent.startsWith('owl')")
    select(page, "a.wav", FOX, "1.80")
    # 0.9 s of the event are in the segment from 2 to 4 s, and 0.2 s in the one before, which needs 0.5 s to have the class.
    page.evaluate("document.querySelector('#event-view button.plain').click()")
    page.wait_until("document.querySelector('#event-view').textContent.includes('Segment 0.00 to 2.00 s')")
    note = page.evaluate("document.querySelector('#event-view .note').textContent")
    assert note.startswith("Only 0.20 s of the event are in this segment")
    assert frames(page) == [[FOX, "dotted"]]
    assert "dotted frame: the part of this event is too short" in page.evaluate(
        "document.querySelector('#event-view figure').textContent"
    )
    assert set(
        page.evaluate(
            "[...document.querySelectorAll('.event-decisions tbody td:nth-child(2)')].map((c) => c.textContent)"
        )
    ) <= {
        "✓ correctly absent",
        "✗ false alarm",
    }


@pytest.mark.slow
@needs_chromium
def test_a_segment_without_media_says_why(page):
    reason = page.evaluate("(core.unreadable[3] = 'd.wav changed', [missingReason(3), missingReason(0)])")
    assert reason[0] == "d.wav changed"
    # 4 recordings of 6 s have 12 segments of 2 s
    assert reason[1].startswith("Images and audio of 12 segments are on this page, and this segment is not among them.")


@pytest.mark.slow
@needs_chromium
def test_the_filters_show_the_events_of_a_class_or_a_result(page):
    total = sum(len(events) for events in EVENTS.values())
    for choice, test in {"none": "missed", "all": "found"}.items():
        page.evaluate(
            f"(() => {{ const s = document.querySelector('#events-result'); s.value = '{choice}'; s.dispatchEvent(new Event('change')); }})()"
        )
        shown = page.evaluate(
            "[...document.querySelectorAll('.event-bar')].map((bar) => bar.getAttribute('aria-label'))"
        )
        expected = {"none": "found by 0 of 2", "all": "found by 2 of 2"}[choice]
        assert all(expected in text for text in shown), test
        assert page.evaluate("document.querySelector('#events-count').textContent").startswith(
            f"{len(shown)} of {total} events"
        )
    page.evaluate(
        "(() => { const s = document.querySelector('#events-result'); s.value = ''; s.dispatchEvent(new Event('change')); })()"
    )
    page.evaluate(
        "[...document.querySelectorAll('#events-legend .key')].find((key) => key.textContent.startsWith('owl')).click()"
    )
    assert page.evaluate("document.querySelectorAll('.event-bar').length") == 4
    page.evaluate("document.querySelector('#events-legend .key').click()")
    assert page.evaluate("document.querySelectorAll('.event-bar').length") == total
