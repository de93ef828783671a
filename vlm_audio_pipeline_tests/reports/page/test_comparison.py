"""Comparison pages of a study that was run, changed and run again, and of a second study."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.page.compared_results import (
    ComparedResults,
    common_clip_ids,
    compare_results,
)
from vlm_audio_pipeline.reports.page.compared_settings import DifferentSetting, Setting, different_settings
from vlm_audio_pipeline.reports.page.comparison import comparison_folder, write_comparison
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.cli.program import assert_refused, vlm_audio
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium

pytestmark = pytest.mark.slow
KEY = ("model", "generation", "none")


@dataclass
class TwoRuns:
    """A bench with the correctness of each clip before and after a change, and the time between."""

    bench: Bench
    time: str
    before: dict[str, bool]
    after: dict[str, bool]

    @property
    def earlier(self) -> str:
        return f"bench@{self.time}"


def read_correct(bench: Bench) -> dict[str, bool]:
    sql = "SELECT clip, correct FROM predictions WHERE study = 'bench' AND classifier = 'model' AND scoring = 'generation'"
    return {row["clip"]: row["correct"] for row in query(bench.data_folder, sql).to_pylist()}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("two_runs") / "bench")
    model = {"kind": "language_model", "backend": "scripted", "model": "scripted", "rendering": "small"}
    bench.study |= {
        "renderings": {
            "small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256, "colormap": "viridis"}
        },
        "classifiers": {"model": model, "knn": {"kind": "knn", "encoder": "bands", "k": 3}},
    }
    bench.run()
    before = read_correct(bench)
    time = datetime.now(UTC).isoformat()
    bench.study["classifiers"]["model"] = model | {"script": {"seed": 1}}
    bench.run()
    after = read_correct(bench)
    second = bench.changed_study("classifiers", model=model, other={"kind": "knn", "encoder": "bands", "k": 1})
    second["renderings"]["small"]["colormap"] = "magma"
    bench.run(second | {"name": "second"})
    return TwoRuns(bench, time, before, after)


def load(two_runs: TwoRuns, *names: str) -> list[ComparedResults]:
    return [ComparedResults.load(two_runs.bench.data_folder, name) for name in names]


def test_earlier_results_are_those_of_that_time(two_runs):
    earlier, now = load(two_runs, two_runs.earlier, "bench")
    for side, correct in ((earlier, two_runs.before), (now, two_runs.after)):
        predictions = side.entries[KEY].predictions
        assert {clip: prediction.correct for (_, clip), prediction in predictions.items()} == correct
    assert two_runs.before != two_runs.after, "the change has an effect"


def test_the_difference_counts_the_clips_that_changed(two_runs):
    rows = compare_results(load(two_runs, two_runs.earlier, "bench"))
    by_key = {row["key"]: row["cells"] for row in rows}
    before, after = by_key[KEY]
    assert before["accuracy"] == sum(two_runs.before.values()) / 12
    assert after["gained"] == sum(two_runs.after[c] and not two_runs.before[c] for c in two_runs.before)
    assert after["lost"] == sum(two_runs.before[c] and not two_runs.after[c] for c in two_runs.before)
    assert after["difference"] == pytest.approx((after["gained"] - after["lost"]) / 12)
    knn = by_key["knn", "score", "none"]
    assert knn[1]["is_equal"] and "p_holm" not in knn[1]
    assert after["p"] == after["p_holm"] == 1.0, (
        "as many clips were gained as lost; `test_compared_results` has other cases"
    )
    assert {key[1] for key, cells in by_key.items() if "p_holm" in cells[1]} == {"likelihood", "generation"}


def test_only_what_differs_is_listed(two_runs):
    """The expected values are those of the study files in `two_runs`."""
    earlier = different_settings(load(two_runs, two_runs.earlier, "bench"))
    assert [(line.name, line.values[1]) for line in earlier] == [("script.seed", Setting("1", False))]
    assert different_settings(load(two_runs, "bench", "second")) == [
        DifferentSetting(("model",), "script.seed", (Setting("1", False), Setting("0", True))),
        DifferentSetting(("model",), "rendering: colormap", (Setting("viridis", False), Setting("magma", False))),
        DifferentSetting(("other",), "has results", (Setting("no"), Setting("yes"))),
    ]


def test_clips_with_other_recordings_are_not_compared(two_runs, tmp_path):
    bench = two_runs.bench.copy_to(tmp_path / "bench")
    bench.record("1-low-0", "low", seed=99)
    bench.run(bench.changed_study("dataset") | {"name": "recorded_again"})
    first, other = [ComparedResults.load(bench.data_folder, name) for name in ("bench", "recorded_again")]
    assert common_clip_ids(first.results, other.results) == two_runs.after.keys() - {"1-low-0"}
    cells = {row["key"]: row["cells"] for row in compare_results([first, other])}[KEY]
    assert cells[1]["is_equal"]  # of the other 11 clips


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bench"], "two or more different results, got bench"),
        (["bench", "bench"], "two or more different results"),
        (["bench", "bensch"], "did you mean 'bench'"),
        (["bench", "bench@2001-01-01"], "no results from 2001-01-01 or before; its first are of 20"),
        (["bench", "bench@last week"], "must be a date such as"),
    ],
)
def test_results_that_do_not_exist_are_refused(two_runs, names, message, tmp_path):
    with pytest.raises(VlmAudioError, match=message):
        write_comparison(two_runs.bench.data_folder, names, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_page_has_no_study_name(two_runs):
    folder = comparison_folder(two_runs.bench.data_folder, ["bench", two_runs.earlier])
    assert folder.parent == two_runs.bench.data_folder.reports and "+" in folder.name and ":" not in folder.name
    long = comparison_folder(two_runs.bench.data_folder, [f"study_{i}" for i in range(50)])
    assert len(long.name) < 100


@pytest.fixture(scope="module", params=[False, True], ids=["folder", "single file"])
def page_file(request, two_runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / ("page.html" if request.param else "page")
    names = [two_runs.earlier, "bench", "second"]
    return write_comparison(two_runs.bench.data_folder, names, out, single_file=request.param)


def test_the_page_names_its_results_and_settings(two_runs, page_file: Path):
    text = page_file.read_text()
    assert text.count(two_runs.time) > 3 and "script.seed" in text
    assert "12 of them also in" in text and "has the same predictions" in text
    assert '<td class="wrap">viridis</td>' in text and '<td class="wrap">magma</td>' in text
    assert "the prompts of earlier results are not stored" in text and "[the image or audio of the clip]" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = BrowserPage(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def stored_image(two_runs: TwoRuns, study: str, clip: str) -> bytes:
    sql = f"SELECT image FROM spectrograms WHERE study = '{study}' AND rendering = 'small' AND clip = '{clip}'"
    [row] = query(two_runs.bench.data_folder, sql).to_pylist()
    return row["image"]


@needs_chromium
def test_a_card_shows_the_image_of_each_study(two_runs, page_file, browser):
    browser.open(page_file.as_uri())
    browser.wait_until("document.getElementById('comparison').dataset.ready")
    first, second = (
        browser.evaluate(f"core.runs.findIndex((r) => r.name === 'model in {study}' && r.scoring === 'generation')")
        for study in ("bench", "second")
    )
    clip = browser.evaluate("load('clips').then((clips) => clips[0][0])")

    def figures(runs) -> list[list[str]]:
        return browser.evaluate(
            f"makeCard(0, {json.dumps(runs)}).then((card) => [...card.querySelectorAll('figure')].map((f) => [f.querySelector('img').getAttribute('src'), f.querySelector('figcaption').textContent]))"
        )

    shown = figures([first, second])
    assert [text.split(":")[0] for _, text in shown] == ["bench", "second"]
    if page_file.name == "index.html":
        images = [(page_file.parent / address).read_bytes() for address, _ in shown]
        assert images == [stored_image(two_runs, study, clip) for study in ("bench", "second")]
    assert shown[0][0] != shown[1][0]
    browser.evaluate("core.images['second/small'] = core.images['bench/small']")
    assert [text.split(":")[0] for _, text in figures([first, second])] == ["bench and second"]
    earlier = browser.evaluate("core.runs.findIndex((r) => r.name.startsWith('model in bench@'))")
    notes = browser.evaluate(
        f"makeCard(0, [{earlier}, {first}]).then((card) => [...card.querySelectorAll('.images > p')].map((p) => p.textContent))"
    )
    assert notes == [f"{two_runs.earlier}: images of earlier results are not stored"]


@needs_chromium
def test_a_number_of_changed_clips_shows_their_cards(two_runs, page_file, browser):
    browser.logged.clear()
    browser.open(page_file.as_uri())
    browser.wait_until("document.getElementById('comparison').dataset.ready")
    lost = sorted(c for c in two_runs.before if two_runs.before[c] and not two_runs.after[c])
    assert lost, "the change makes some clips wrong"
    links = browser.evaluate("[...document.querySelectorAll('a.compare')].map((a) => [a.textContent, a.dataset.group])")
    link = links.index([f"{len(lost)} clip{'s' * (len(lost) > 1)}", "0"])  # group 0: only the first is correct
    browser.evaluate(f"document.querySelectorAll('a.compare')[{link}].click()")
    cards = browser.wait_until(
        """(() => { const cards = [...document.querySelectorAll('#comparison-gallery .card')];
            return cards.length && cards.every((c) => c.querySelector('audio').duration > 0 && c.querySelector('img').naturalWidth > 0)
              && cards.map((c) => [c.querySelector('.about > .quiet:nth-of-type(2)').textContent, [...c.querySelectorAll('.prediction .badge')].map((b) => b.textContent[0])]) })()"""
    )
    assert [marks for _, marks in cards] == [["✓", "✗"]] * len(lost)
    assert sorted(json.dumps(text).split(" ")[1] for text, _ in cards) == lost
    assert browser.logged == []
    browser.send("Emulation.setDeviceMetricsOverride", width=420, height=900, deviceScaleFactor=1, mobile=True)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 420
    browser.wait_until("[...document.querySelectorAll('.scroll')].every((e) => e.scrollWidth <= e.clientWidth + 1)")
    assert browser.evaluate(
        "[...document.querySelectorAll('.plain-table')].every((t) => t.classList.contains('stacked'))"
    )
    browser.send("Emulation.clearDeviceMetricsOverride")


def test_prompts_with_equal_texts_and_other_images_are_not_called_equal(two_runs, tmp_path):
    page = write_comparison(two_runs.bench.data_folder, ["bench", "second"], tmp_path / "page")
    text = page.read_text()
    assert "The texts of the prompt of model are equal in bench and second." in text
    # the images differ: the studies have different colormaps, which the section Settings lists
    assert '<td class="wrap">viridis</td>' in text and '<td class="wrap">magma</td>' in text
    assert "Their images and audio are not; the section Settings says what changes them." in text


def test_the_command_and_python_write_the_same_page(two_runs):
    root = two_runs.bench.data_folder.root
    report_page = two_runs.bench.data_folder.reports / "second" / "index.html"
    report_page.parent.mkdir(parents=True)
    report_page.touch()
    result = vlm_audio("report", "second", two_runs.earlier, data=root)
    assert result.code == 0, result.err
    page = Path(result.out.strip())
    assert page == comparison_folder(two_runs.bench.data_folder, ["second", two_runs.earlier]) / "index.html"
    assert vap.study("second", data=root).compare(two_runs.earlier) == page
    text = page.read_text()
    assert "second compared" not in text and f"{two_runs.earlier} compared with second" in text
    assert f"Differences are {two_runs.earlier} minus second." in text
    assert '<a href="../second/index.html">report page of second</a>' in text and "report page of bench" not in text
    assert f"cannot be compared. {two_runs.earlier}: the prompts of earlier results are not stored." in text
    assert "without a difference" not in text, "a prompt without another one has no difference"
    assert_refused(vlm_audio("report", "second", "bench@2001-01-01", data=root), "no results from 2001-01-01")
