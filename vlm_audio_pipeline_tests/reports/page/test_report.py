import html.parser
import json
import os
import re
import shutil

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline.reports.page.verdicts import reason_without_verdicts
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.reports.page.example_study import (
    HOSTILE_REASONING,
    HOSTILE_RESPONSE,
    ODD_CLASS,
    ExampleStudy,
    write_example_study,
)


class ParsedPage(html.parser.HTMLParser):
    """The texts, elements and script contents of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id", "") if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.texts.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


@pytest.fixture(scope="module")
def page(folder_report):
    return ParsedPage(folder_report.read_text())


def read_data(folder_report, key):
    text = (folder_report.parent / "data" / f"{key}.js").read_text()
    return json.loads(re.fullmatch(r'vlmAudio\.receive\("[\w-]+",(.*)\);\n', text, re.DOTALL)[1])


def core(page):
    return json.loads(page.scripts["core"])


def test_the_folder_holds_the_page_its_data_and_its_media(folder_report):
    names = sorted(path.name for path in folder_report.parent.iterdir())
    assert names == ["data", "index.html", "media"]
    assert {p.name for p in (folder_report.parent / "data").iterdir()} == {
        "clips.js",
        "requests-0.js",
        *(f"predictions-{i}.js" for i in range(3)),
        *(f"projection-{i}.js" for i in range(4)),
    }


def test_every_section_that_has_data_is_there(page):
    sections = {attributes.get("id") for tag, attributes in page.tags if tag == "section"}
    assert sections == {
        *(
            "one-clip",
            "verdicts",
            "key-findings",
            "leaderboard",
            "contrasts",
            "controls",
            "clips",
            "comparison",
            "maps",
            "reliability",
            "prompts",
        ),
        *("published", "quality", "leakage", "costs", "history", "provenance"),
    }
    assert "Sections that are not on this page" not in page.text


def test_the_menu_names_every_section_by_its_heading(folder_report):
    text = folder_report.read_text()
    sections = re.findall(r'<section id="([\w-]+)"[^>]*>\s*<h2>([^<]+)</h2>', text)
    menu = dict(re.findall(r'<a href="#([\w-]+)">([^<]+)</a>', text[text.index("<nav") : text.index("</nav>")]))
    assert menu == dict(sections) and len(sections) == text.count("<section ")


def test_a_missing_value_says_why_it_is_missing(folder_report):
    assert not re.search(r">\s*–\s*<", folder_report.read_text())


def test_the_first_line_answers_whether_the_models_can_hear_what_they_see(page):
    assert page.text.startswith(
        "example: Can vision-language models hear what they see? image_model: it can (by likelihood), cannot be decided "
        "(by generation). absent: cannot be decided."
    )  # the title; the heading of the page follows
    heading = page.text.index("Can vision-language models hear what they see?", 20)
    assert heading < page.text.index("image_model (likelihood) can hear what it sees: <numbers>.")
    assert page.text.index("<numbers>") < page.text.index("Which model classifies the sounds best?")
    # accuracies of the table: image, blank, chance, audio; then the model without the control
    assert (
        "image_model (likelihood)66.7 %20.0 %model better, p < 0.00120.0 %model better, p = 0.00280.0 %audio_modelno difference shown"
        in page.text
    )
    assert "absent " in page.text and "image shuffled in time" not in page.text  # no model has this control


def test_without_verdicts_the_page_says_why():
    listener = {"kind": "language_model"}
    assert "has no vision-language model" in reason_without_verdicts({"classifiers": {"listener": listener}})
    older = {"classifiers": {"vlm": listener | {"rendering": "paper"}}}
    assert "were not computed; run the study again" in reason_without_verdicts(older)


def test_published_results_stand_with_every_difference(page):
    for line in ("clips: published 60, here 30", "model: published a, here b", "prompt: here plain"):
        assert line in page.text
    assert "not stated in the publication (1)" in page.text
    assert "example2020: An Example, https://example.org/2020" in page.text


def test_no_element_refers_to_another_file_or_a_server(page):
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in next(a["content"] for t, a in page.tags if a.get("http-equiv"))


@pytest.mark.parametrize("form", ["folder_report", "single_file_report"])
def test_class_names_and_responses_cannot_become_markup(form, request):
    text = request.getfixturevalue(form).read_text()
    assert "<b>waves" not in text and "<here>" not in text and "window.broken = 1</script>" not in text
    page = ParsedPage(text)
    assert ODD_CLASS in page.text
    assert ODD_CLASS in core(page)["classes"]
    assert not [a for tag, a in page.tags if tag == "img" and "onerror" in a]


def test_images_are_byte_for_byte_those_that_models_received(example_study, folder_report, page):
    names = core(page)["images"]["paper"]
    clips = [row[0] for row in read_data(folder_report, "clips")]
    stored = {clips[i]: (folder_report.parent / "media" / name).read_bytes() for i, name in enumerate(names)}
    received = {}
    for fold in (1, 2, 3):
        rows, _ = read_partition(
            example_study.data_folder.partition_file("spectrograms", example_study.study, "paper", fold),
            TABLES["spectrograms"],
        )
        received |= dict(zip(rows["clip"].to_pylist(), rows["image"].to_pylist(), strict=True))
    assert stored == received


def test_equal_images_are_one_file(page):
    blank = core(page)["images"]["paper__blank"]
    assert len(blank) == 30 and len(set(blank)) == 1


def test_every_prediction_is_in_the_data(example_study, folder_report, page):
    data = core(page)
    run = next(
        i for i, r in enumerate(data["runs"]) if (r["classifier"], r["scoring"]) == ("image_model", "generation")
    )
    rows = [row for row in read_data(folder_report, data["runs"][run]["data"]) if row[0] == run]
    clips = [row[0] for row in read_data(folder_report, "clips")]
    rows_by_clip = {clips[row[1]]: row for row in rows}
    kinds = {-1: "unparseable", -4: "error"}
    for i, clip in enumerate(example_study.clips):
        row = rows_by_clip.pop(clip["clip"])
        # predict_image_model: i % 7 == 3 is unparseable, i % 7 == 5 an error, every third of the others wrong
        if i % 7 in (3, 5):
            assert kinds[row[2]] == ("unparseable" if i % 7 == 3 else "error")
            if i % 7 == 3:
                assert row[6:9] == [HOSTILE_RESPONSE, None, HOSTILE_REASONING]
            else:
                assert row[6:9] == [None, "503 <busy>", None]
            assert row[9] == (clip["fold"] > 1)  # folds 2 and 3 have the same examples
        else:
            assert (data["classes"][row[2]] == clip["label"]) == bool(i % 3)
    assert not rows_by_clip


def test_votes_are_the_majority_of_the_annotators(example_study, page):
    data = core(page)
    annotators = next(r for r in data["runs"] if r["kind"] == "annotations")
    assert annotators["votes"] == data["labels"]  # two of three annotators are always correct


def test_controls_have_their_own_images_and_audio_models_have_none(page):
    inputs = {(r["name"], r["scoring"]): (r["image_set"], r["takes_audio"]) for r in core(page)["runs"]}
    assert inputs["image_model @ blank", "likelihood"] == ("paper__blank", False)
    assert inputs["image_model", "generation"] == ("paper", False)
    assert inputs["audio_model", "score"] == (None, True)


def test_a_single_file_states_that_its_images_are_thumbnails(single_file_report):
    page = ParsedPage(single_file_report.read_text())
    assert "The folder form of this report contains all clips" in page.text
    assert {p.name for p in single_file_report.parent.iterdir()} == {"report.html"}
    media = [t for k, t in page.scripts.items() if k.startswith("media-")]
    assert {t.split(";")[0] for t in media} == {"data:image/webp", "data:audio/mpeg"}


@pytest.mark.slow
def test_a_report_is_written_over_an_earlier_one_and_over_nothing_else(example_study, tmp_path):
    out = tmp_path / "report"
    write_report(example_study.data_folder, example_study.study, out)
    (out / "data" / "old.js").write_text("")
    write_report(example_study.data_folder, example_study.study, out)
    assert not (out / "data" / "old.js").exists()
    foreign = tmp_path / "papers"
    foreign.mkdir()
    (foreign / "index.html").write_text("<p>mine</p>")
    with pytest.raises(VlmAudioError, match="must be new, empty or hold an earlier report"):
        write_report(example_study.data_folder, example_study.study, foreign)
    with pytest.raises(VlmAudioError, match="needs a file name"):
        write_report(example_study.data_folder, example_study.study, foreign, single_file=True)
    mine = foreign / "index.html"
    with pytest.raises(VlmAudioError, match=r"must be new or an earlier report, but .*index\.html"):
        write_report(example_study.data_folder, example_study.study, mine, single_file=True)
    assert mine.read_text() == "<p>mine</p>"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["papers", "report"]
    for _ in range(2):
        write_report(example_study.data_folder, example_study.study, tmp_path / "one.html", single_file=True)


def test_old_temporary_files_of_killed_processes_are_deleted(example_study, tmp_path):
    old, young, other = (tmp_path / name for name in (".report.1.tmp", ".report.2.tmp", ".letter.1.tmp"))
    for folder in (old, young, other):
        (folder / "media").mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (0, 0))
    write_report(example_study.data_folder, example_study.study, tmp_path / "report")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".letter.1.tmp", ".report.2.tmp", "report"]


def test_an_unknown_study_is_refused_with_a_suggestion(example_study, tmp_path):
    with pytest.raises(VlmAudioError, match="did you mean 'example'"):
        write_report(example_study.data_folder, "exampl", tmp_path / "report")


def test_a_damaged_partition_file_is_named_and_nothing_is_left_behind(tmp_path):
    example_study = write_example_study(tmp_path / "study")
    path = example_study.data_folder.partition_file("spectrograms", example_study.study, "paper", 2)
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(content)
    with pytest.raises(VlmAudioError, match=re.escape(str(path))):
        write_report(example_study.data_folder, example_study.study, tmp_path / "out" / "report")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_and_changed_recordings_are_reported(tmp_path):
    example_study = write_example_study(tmp_path / "study")
    first, second = (example_study.folder / c["file"] for c in example_study.clips[:2])
    first.unlink()
    shutil.copy(example_study.folder / example_study.clips[-1]["file"], second)
    page = ParsedPage(write_report(example_study.data_folder, example_study.study, tmp_path / "report").read_text())
    assert "2 recordings cannot be read, so they have no audio here. For example:" in page.text
    assert core(page)["audio"].count(None) == 2


def test_without_the_dataset_only_the_audio_is_missing(tmp_path):
    example_study = write_example_study(tmp_path / "study")
    (example_study.folder / "clips.csv").unlink()
    page = ParsedPage(write_report(example_study.data_folder, example_study.study, tmp_path / "report").read_text())
    assert "There is no audio, because the recordings are missing" in page.text
    assert set(core(page)["audio"]) == {None}
    assert len(core(page)["images"]["paper"]) == 30


def test_a_study_with_nothing_but_clips_has_a_page(tmp_path):
    example_study = ExampleStudy(tmp_path / "study").finish()
    page = ParsedPage(write_report(example_study.data_folder, example_study.study, tmp_path / "report").read_text())
    assert "No classifier has results yet." in page.text
    assert page.text.startswith("example: results") and "This study has no vision-language model" in page.text
    assert "Can vision-language" not in page.text and "Which model classifies the sounds best?" in page.text
    for title in ("Comparisons", "Controls", "Maps", "Calibration", "Published", "History"):
        assert f"{title}: " in page.text
    assert "published" not in {attributes.get("id") for _, attributes in page.tags}


@pytest.fixture
def all_tables():
    """Restore the tables in their order, which documents depend on."""
    before = dict(TABLES)
    yield TABLES
    TABLES.clear()
    TABLES.update(before)


def test_tables_that_this_version_does_not_make_are_left_out(example_study, tmp_path, all_tables):
    for name in (
        "verdicts",
        "contrasts",
        "projections",
        "reliability",
        "published",
        "leakage",
        "history",
        "embedding_quality",
    ):
        del all_tables[name]
    (example_study.data_folder.catalogue).unlink()
    page = ParsedPage(
        write_report(DataFolder(example_study.data_folder.root), example_study.study, tmp_path / "report").read_text()
    )
    example_study.data_folder.catalogue.unlink()
    assert "Comparisons: the study declares no contrasts" in page.text


def test_progress_is_reported_to_the_end(example_study, tmp_path):
    calls = []
    write_report(
        example_study.data_folder, example_study.study, tmp_path / "report", progress=lambda *step: calls.append(step)
    )
    # three classifiers; two sets of images and the sounds, 30 each
    assert calls == [
        *((i, 3, "predictions") for i in (1, 2, 3)),
        *((i, 90, "images and audio") for i in range(1, 91)),
    ]
