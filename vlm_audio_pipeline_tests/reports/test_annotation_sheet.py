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

from vlm_audio_pipeline.classifiers.annotations import AnnotationsClassifier, anonymous_clip_name
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.png import encode_rgb
from vlm_audio_pipeline.reports.annotation_sheet import sheet_page, write_annotation_sheet
from vlm_audio_pipeline.storage.catalogue import write_study_record
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, gaussian_blobs, predict_all_folds
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.storage.example_tables import clips, write


def sheet_data(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="sheet">(.*?)</script>', html, re.S)[1])


def image_table(clips) -> pa.Table:
    n = len(clips)
    return pa.table({"clip": clips, "image": [f"image {c}".encode() for c in clips], "media_type": ["image/png"] * n})


CLIPS = [f"1-{n}-A-{n % 4}" for n in range(100, 140)]


def test_every_image_occurs_once_in_a_reproducible_random_order():
    page = sheet_page("s", 1, "paper", ["dog", "rain"], image_table(CLIPS))
    sheet = sheet_data(page)
    got = [p["clip"] for p in sheet["images"]]
    assert sorted(got) == sorted(map(anonymous_clip_name, CLIPS)) and got not in (
        sorted(got),
        [anonymous_clip_name(c) for c in CLIPS],
    )
    assert sheet_page("s", 1, "paper", ["dog", "rain"], image_table(CLIPS)) == page
    assert sheet_page("s", 1, "paper", ["dog", "rain"], image_table(CLIPS[::-1])) == page
    other = sheet_data(sheet_page("s", 1, "paper", ["dog", "rain"], image_table(CLIPS), seed=1))
    assert [p["clip"] for p in other["images"]] != got and other["id"] != sheet["id"]
    assert (sheet["study"], sheet["fold"], sheet["rendering"], sheet["classes"]) == ("s", 1, "paper", ["dog", "rain"])


def test_the_page_does_not_contain_clip_ids_or_true_classes():
    page = sheet_page("s", 1, "paper", ["dog", "rain"], image_table(CLIPS))
    assert not [c for c in CLIPS if c in page]
    assert page.count("dog") == 1, "the class is a button, and nothing else"
    assert "http:" not in page and "https:" not in page and "src=" not in page.replace(".src=", ""), "it is offline"


def test_text_cannot_end_the_script_element():
    page = sheet_page("s", 1, "paper", ["</script><b>", "b"], image_table(CLIPS))
    assert sheet_data(page)["classes"][0] == "</script><b>"
    assert page.count("</script>") == 2


@pytest.fixture
def study_folder(data_folder):
    """A study with images of two folds."""
    parts = {"clips": [], "spectrograms": []}
    for fold in (1, 2):
        listed = clips(3, fold)
        ids = listed["clip"].to_pylist()
        columns = {
            "clip": ids,
            "image": [f"image of {c}".encode() for c in ids],
            "media_type": ["image/png"] * 3,
            **dict.fromkeys(("width", "height"), [9] * 3),
            "image_sha256": ids,
        }
        for name in ("paper", "paper__blank"):
            table = TABLES["spectrograms"].conform(pa.table(columns), study="s", rendering=name, fold=fold)
            parts["spectrograms"].append(write(data_folder, "spectrograms", table, name, fold))
        parts["clips"].append(write(data_folder, "clips", listed, None, fold))
    files = {t: [p.relative_to(data_folder.root).as_posix() for p in paths] for t, paths in parts.items()}
    write_study_record(
        data_folder,
        "s",
        {
            "partition_files": files,
            "extra_columns": [],
            "file": None,
            "limit": None,
            "study": {"renderings": {"linear": {}, "paper": {}}},
        },
    )
    return data_folder


def test_the_images_are_those_that_models_receive(study_folder, tmp_path):
    out = write_annotation_sheet(study_folder, "s", 2, None, tmp_path / "new" / "sheet.html")
    sheet = sheet_data(out.read_text())
    assert sheet["classes"] == ["dog", "rain", "sea"] and sheet["rendering"] == "paper"
    assert {p["clip"] for p in sheet["images"]} == {anonymous_clip_name(f"2-{i}") for i in range(3)}
    images = {p["clip"]: base64.b64decode(p["image"].removeprefix("data:image/png;base64,")) for p in sheet["images"]}
    assert images[anonymous_clip_name("2-1")] == b"image of 2-1"
    assert write_annotation_sheet(study_folder, "s", 2, "paper", tmp_path / "again.html").read_text() == out.read_text()


def test_unknown_names_are_refused_with_the_options(study_folder, tmp_path):
    out = tmp_path / "sheet.html"
    with pytest.raises(VlmAudioError, match=r"--fold must be a fold that has images, got 7; options: \[1, 2\]"):
        write_annotation_sheet(study_folder, "s", 7, None, out)
    with pytest.raises(VlmAudioError, match=r"--rendering must name .* got 'papier'; did you mean 'paper'"):
        write_annotation_sheet(study_folder, "s", 1, "papier", out)
    with pytest.raises(VlmAudioError, match=r"study 'none' has no results in .*; options: s"):
        write_annotation_sheet(study_folder, "none", 1, None, out)
    assert not out.exists()


@pytest.mark.slow
@needs_chromium
def test_annotating_three_clips_in_a_browser_and_reading_the_csv(tmp_path):
    data, listed, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("dog", "sea_waves", "rain"))
    here = [c for c in listed["clip"].to_pylist() if c.startswith("1-")]
    colours = {c: (40 * i, 90, 200) for i, c in enumerate(here)}
    images = [encode_rgb(np.full((48, 64, 3), colours[c], np.uint8)) for c in here]
    table = pa.table({"clip": here, "image": images, "media_type": ["image/png"] * 3})
    page_file = tmp_path / "sheet.html"
    page_file.write_text(sheet_page("s", 1, "paper", list(data.classes), table))
    order = [p["clip"] for p in sheet_data(page_file.read_text())["images"]]
    page = BrowserPage(tmp_path / "profile")
    try:
        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
        page.open(page_file.as_uri())
        assert page.evaluate("document.querySelector('main').hidden")
        page.type('=Ann "A", Jr')
        page.click("#begin button")
        assert page.evaluate("document.getElementById('count').textContent") == "image 1 of 3, 0 labelled"
        page.wait_until(
            "document.getElementById('image').complete && document.getElementById('image').naturalWidth === 64"
        )
        page.press("2")  # sea_waves, and on to the next
        page.click("#choices button[data-label=rain]")
        assert page.evaluate("document.getElementById('count').textContent") == "image 3 of 3, 2 labelled"
        page.open("about:blank")
        page.open(page_file.as_uri())  # the annotator opens the page again
        assert page.evaluate("document.getElementById('count').textContent") == "image 3 of 3, 2 labelled"
        assert page.evaluate("document.getElementById('annotator-name').textContent") == 'annotator: =Ann "A", Jr'
        page.press("9")  # no such class
        page.press("1")
        page.press("ArrowLeft")
        page.press("ArrowLeft")
        assert page.evaluate("document.querySelector('[aria-pressed=true]').dataset.label") == "sea_waves"
        page.press("3")  # a changed label
        if folder := os.environ.get("ANNOTATION_SHEET_SCREENSHOTS"):
            page.screenshot(Path(folder) / "sheet.png")
        text = page.evaluate("annotationCsv()")
        page.click("#save")
        saved = tmp_path / "saved" / "annotations_s_fold1__Ann_A_Jr.csv"
        page.wait_until(f"document.getElementById('status').textContent === '{saved.name} saved, 3 of 3 labelled'")
        for _ in range(50):
            if saved.exists() and saved.stat().st_size == len(text.encode()):
                break
            page.evaluate("new Promise((done) => setTimeout(done, 100))")
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
    assert {r["annotator"] for r in rows} == {'\'=Ann "A", Jr'}, "a spreadsheet shows the name and computes nothing"
    annotations = predict_all_folds(
        AnnotationsClassifier(path=saved), "annotators", data, {"clips": clips_table(data.clips)}
    ).to_pylist()
    labels = dict(zip(order, ("rain", "rain", "dog"), strict=True))
    assert {r["clip"]: r["predicted"] for r in annotations} == {c: labels[anonymous_clip_name(c)] for c in here}
    assert {(r["annotator"], r["rendering"], r["trial"], r["scoring"]) for r in annotations} == {
        ('=Ann "A", Jr', "paper", 0, "annotation")
    }
    assert all(0 < r["seconds"] < 600 and r["answered_at"].year >= 2024 for r in annotations)
    assert all(r["correct"] == (labels[anonymous_clip_name(r["clip"])] == r["label"]) for r in annotations)
