import base64
import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.classifiers.human import Human, anonymous
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.png import encode_rgb
from vlm_audio_pipeline.reports.annotation_sheet import sheet_page, write_reading_sheet
from vlm_audio_pipeline.storage.catalogue import write_manifest
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import clips_table, run, toy
from vlm_audio_pipeline_tests.reports.chromium import Page, needs_chromium
from vlm_audio_pipeline_tests.storage.making import clips, write


def in_page(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="sheet">(.*?)</script>', html, re.S)[1])


def shown(clips) -> pa.Table:
    n = len(clips)
    return pa.table(
        {"clip": clips, "picture": [f"picture {c}".encode() for c in clips], "media_type": ["image/png"] * n}
    )


CLIPS = [f"1-{n}-A-{n % 4}" for n in range(100, 140)]


def test_every_picture_once_in_an_order_that_is_random_and_the_same_again():
    page = sheet_page("s", 1, "paper", ["dog", "rain"], shown(CLIPS))
    sheet = in_page(page)
    got = [p["clip"] for p in sheet["pictures"]]
    assert sorted(got) == sorted(map(anonymous, CLIPS)) and got not in (sorted(got), [anonymous(c) for c in CLIPS])
    assert sheet_page("s", 1, "paper", ["dog", "rain"], shown(CLIPS)) == page
    assert sheet_page("s", 1, "paper", ["dog", "rain"], shown(CLIPS[::-1])) == page
    other = in_page(sheet_page("s", 1, "paper", ["dog", "rain"], shown(CLIPS), seed=1))
    assert [p["clip"] for p in other["pictures"]] != got and other["id"] != sheet["id"]
    assert (sheet["study"], sheet["fold"], sheet["rendering"], sheet["classes"]) == ("s", 1, "paper", ["dog", "rain"])


def test_nothing_in_the_page_tells_a_clip_or_its_class():
    page = sheet_page("s", 1, "paper", ["dog", "rain"], shown(CLIPS))
    assert not [c for c in CLIPS if c in page]
    assert page.count("dog") == 1, "the class is a button, and nothing else"
    assert "http:" not in page and "https:" not in page and "src=" not in page.replace(".src=", ""), "it is offline"


def test_text_may_not_end_the_script():
    page = sheet_page("s", 1, "paper", ["</script><b>", "b"], shown(CLIPS))
    assert in_page(page)["classes"][0] == "</script><b>"
    assert page.count("</script>") == 2


@pytest.fixture
def made(layout):
    """A study with pictures of two folds."""
    parts = {"clips": [], "spectrograms": []}
    for fold in (1, 2):
        listed = clips(3, fold)
        ids = listed["clip"].to_pylist()
        columns = {
            "clip": ids,
            "picture": [f"picture of {c}".encode() for c in ids],
            "media_type": ["image/png"] * 3,
            **dict.fromkeys(("width", "height"), [9] * 3),
            "picture_sha256": ids,
        }
        for name in ("paper", "paper__blank"):
            table = TABLES["spectrograms"].conform(pa.table(columns), study="s", rendering=name, fold=fold)
            parts["spectrograms"].append(write(layout, "spectrograms", table, name, fold))
        parts["clips"].append(write(layout, "clips", listed, None, fold))
    there = {t: [p.relative_to(layout.root).as_posix() for p in paths] for t, paths in parts.items()}
    write_manifest(
        layout,
        "s",
        {"parts": there, "kept": [], "file": None, "limit": None, "study": {"renderings": {"linear": {}, "paper": {}}}},
    )
    return layout


def test_the_pictures_are_those_that_models_are_shown(made, tmp_path):
    out = write_reading_sheet(made, "s", 2, None, tmp_path / "new" / "sheet.html")
    sheet = in_page(out.read_text())
    assert sheet["classes"] == ["dog", "rain", "sea"] and sheet["rendering"] == "paper"
    assert {p["clip"] for p in sheet["pictures"]} == {anonymous(f"2-{i}") for i in range(3)}
    given = {
        p["clip"]: base64.b64decode(p["picture"].removeprefix("data:image/png;base64,")) for p in sheet["pictures"]
    }
    assert given[anonymous("2-1")] == b"picture of 2-1"
    assert write_reading_sheet(made, "s", 2, "paper", tmp_path / "again.html").read_text() == out.read_text()


def test_what_is_not_there_is_refused_with_what_is(made, tmp_path):
    out = tmp_path / "sheet.html"
    with pytest.raises(VlmAudioError, match=r"--fold must be one whose pictures were made, got 7; options: \[1, 2\]"):
        write_reading_sheet(made, "s", 7, None, out)
    with pytest.raises(VlmAudioError, match=r"--rendering must name .* got 'papier'; did you mean 'paper'"):
        write_reading_sheet(made, "s", 1, "papier", out)
    with pytest.raises(VlmAudioError, match=r"a study to show must have been run .* got 'none'; options: s"):
        write_reading_sheet(made, "none", 1, None, out)
    assert not out.exists()


@pytest.mark.slow
@needs_chromium
def test_reading_three_clips_in_a_browser_and_feeding_them_back(tmp_path):
    data, listed, _ = toy(n_folds=2, per_class=1, classes=("dog", "sea_waves", "rain"))
    here = [c for c in listed["clip"].to_pylist() if c.startswith("1-")]
    colours = {c: (40 * i, 90, 200) for i, c in enumerate(here)}
    pictures = [encode_rgb(np.full((48, 64, 3), colours[c], np.uint8)) for c in here]
    table = pa.table({"clip": here, "picture": pictures, "media_type": ["image/png"] * 3})
    page_file = tmp_path / "sheet.html"
    page_file.write_text(sheet_page("s", 1, "paper", list(data.classes), table))
    order = [p["clip"] for p in in_page(page_file.read_text())["pictures"]]
    page = Page(tmp_path / "profile")
    try:
        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
        page.open(page_file.as_uri())
        assert page.ask("document.querySelector('main').hidden")
        page.type('Ann "A", Jr')
        page.click("#begin button")
        assert page.ask("document.getElementById('count').textContent") == "picture 1 of 3, 0 answered"
        page.until(
            "document.getElementById('picture').complete && document.getElementById('picture').naturalWidth === 64"
        )
        page.press("2")  # sea_waves, and on to the next
        page.click("#choices button[data-label=rain]")
        assert page.ask("document.getElementById('count').textContent") == "picture 3 of 3, 2 answered"
        page.open("about:blank")
        page.open(page_file.as_uri())  # a reader comes back
        assert page.ask("document.getElementById('count').textContent") == "picture 3 of 3, 2 answered"
        assert page.ask("document.getElementById('who').textContent") == 'read by Ann "A", Jr'
        page.press("9")  # no such class
        page.press("1")
        page.press("ArrowLeft")
        page.press("ArrowLeft")
        assert page.ask("document.querySelector('[aria-pressed=true]').dataset.label") == "sea_waves"
        page.press("3")  # thought again
        if folder := os.environ.get("READING_SHEET_SCREENSHOTS"):
            page.screenshot(Path(folder) / "sheet.png")
        text = page.ask("readingCsv()")
        page.click("#save")
        saved = tmp_path / "saved" / "reading_s_fold1_Ann_A_Jr.csv"
        page.until(f"document.getElementById('said').textContent === '{saved.name} saved, 3 of 3 answered'")
        for _ in range(50):
            if saved.exists() and saved.stat().st_size == len(text.encode()):
                break
            page.ask("new Promise((done) => setTimeout(done, 100))")
        assert saved.read_bytes().decode() == text
        assert page.logged == []
        assert not [u for u in page.requested if not u.startswith(("file:", "data:", "blob:", "about:"))]
    finally:
        page.close()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["clip"], r["label"], r["position"]) for r in rows] == [
        (order[0], "rain", "1"),
        (order[1], "rain", "2"),
        (order[2], "dog", "3"),
    ]
    judged = run(Human(path=saved), "readers", data, {"clips": clips_table(data.clips)}).to_pylist()
    said = dict(zip(order, ("rain", "rain", "dog"), strict=True))
    assert {r["clip"]: r["predicted"] for r in judged} == {c: said[anonymous(c)] for c in here}
    assert {(r["reader"], r["rendering"], r["trial"], r["scoring"]) for r in judged} == {
        ('Ann "A", Jr', "paper", 0, "judgement")
    }
    assert all(0 < r["seconds"] < 600 and r["answered_at"].year >= 2024 for r in judged)
    assert all(r["correct"] == (said[anonymous(r["clip"])] == r["label"]) for r in judged)
