"""A multi-label study from its file: CSV labels, embeddings, classifiers, measures, SQL and the command."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.report_page import update_report_page, write_single_file
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage

STUDY = """
name: tones
task: multi_label
dataset: {kind: csv, path: clips.csv, n_folds: 3, columns: {labels: labels, start: start, end: end}}
encoders: {mfcc: {kind: features}}
classifiers:
  probed: {kind: probe, encoder: mfcc, c: 0.1}
  nearest: {kind: knn, encoder: mfcc}
"""
TONES_HZ = {"low": 300, "middle": 900, "high": 2000}


@pytest.fixture
def study_file(tmp_path):
    """Write recordings of four one-second segments, each with any of three tones, and a study."""
    random, rate, rows = np.random.default_rng(0), 8000, []
    time = np.arange(rate) / rate
    for recording in range(12):
        samples = random.normal(0, 0.05, 4 * rate)
        for second in range(4):
            labels = [name for name in TONES_HZ if random.random() < 0.35]
            for name in labels:
                samples[second * rate : (second + 1) * rate] += 0.2 * np.sin(2 * np.pi * TONES_HZ[name] * time)
            rows.append([f"r{recording}.wav", ";".join(labels), second, second + 1])
        soundfile.write(tmp_path / f"r{recording}.wav", samples.astype(np.float32), rate)
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "start", "end"])
        writer.writerows(rows)
    (tmp_path / "tones.yaml").write_text(STUDY)
    return tmp_path / "tones.yaml"


def assert_media_can_be_shown(profile, *pages):
    browser = BrowserPage(profile)
    for page in pages:
        browser.open(page.as_uri())
        browser.evaluate("document.querySelector('audio').load()")
        browser.evaluate("document.querySelector('article img').scrollIntoView()")
        browser.wait_until("document.querySelector('article img').naturalWidth")
        browser.wait_until(
            "document.querySelector('audio').error === null && document.querySelector('audio').currentSrc"
        )
        browser.wait_until("document.querySelector('#links a[aria-current]')?.textContent === 'Clips'")
    assert browser.logged == []
    browser.close()


@pytest.mark.slow
def test_a_study_from_csv_labels_to_sql(study_file, data_folder):
    graph = Graph(load_study(study_file), data_folder)
    assert not run_study(graph).failed
    board = query(data_folder, "SELECT * FROM multi_label_leaderboard").to_pylist()
    assert {row["classifier"] for row in board if row["rank"] is not None} == {"probed", "nearest"}
    assert all(row["cmap"] > 0.9 for row in board if row["rank"] is not None)  # tones above noise are easy
    counts = query(
        data_folder,
        "SELECT classifier, count(*) AS n, count(DISTINCT clip) AS c FROM multi_label_predictions GROUP BY 1",
    )
    assert {(r["n"], r["c"]) for r in counts.to_pylist()} == {(3 * 48, 48)}
    truth = query(data_folder, "SELECT count(*) AS n FROM clip_labels")["n"][0].as_py()
    assert {row["positives"] for row in board} == {truth}
    # AP from SQL alone: the order of the scores of one class
    by_hand = query(
        data_folder,
        "WITH ranked AS (SELECT truth, sum(truth::INT) OVER w AS hits, count(*) OVER w AS n FROM multi_label_predictions "
        "WHERE classifier = 'probed' AND label = 'low' WINDOW w AS (ORDER BY score DESC)) "
        "SELECT sum(hits / n) / count(*) AS ap FROM ranked WHERE truth",
    )["ap"][0].as_py()
    stored = query(
        data_folder,
        "SELECT value FROM multi_label_metrics WHERE classifier = 'probed' AND metric = 'ap' AND label = 'low' AND subset = 'all'",
    )["value"][0].as_py()
    assert stored == pytest.approx(by_hand, abs=1e-9)
    assert run_study(Graph(load_study(study_file), data_folder)).steps == 0
    file = update_report_page(Graph(load_study(study_file), data_folder))
    page = file.read_text()
    assert all(f'<a href="#{part}">' in page for part in ("leaderboard", "classes", "events", "clips"))
    assert "The dataset has no annotated events with start and end" in page
    cmap = next(row["cmap"] for row in board if row["classifier"] == "nearest")
    assert f"<b>{cmap:.3f}</b>" in page
    shown = [int(number) for number in re.findall(r'class="segment-media" data-clip="(\d+)"', page)]
    core = json.loads(re.search(r'id="core">(.*?)</script>', page)[1])
    assert page.count("<article") == len(shown) > 0
    for clip in shown:
        assert all(
            (file.parent / "media" / names[clip]).stat().st_size for names in (core["audio"], *core["images"].values())
        )
    single = data_folder.root / "tones.html"
    write_single_file(Graph(load_study(study_file), data_folder), single)
    assert "data:image/" in single.read_text()
    if shutil.which("chromium"):
        assert_media_can_be_shown(data_folder.root / "profile", file, single)
    lines = (study_file.parent / "clips.csv").read_text().splitlines()
    lines[1] = "r0.wav,high;low;middle,0,1"
    (study_file.parent / "clips.csv").write_text("\n".join(lines))
    assert not run_study(Graph(load_study(study_file), data_folder)).failed
    sql = "SELECT label FROM multi_label_predictions WHERE clip = 'r0@0-1' AND classifier = 'nearest' AND truth ORDER BY 1"
    assert query(data_folder, sql)["label"].to_pylist() == ["high", "low", "middle"]


def test_kinds_are_those_of_the_task(tmp_path):
    with pytest.raises(BadStudy, match="annotations"):
        parse_study(STUDY.replace("kind: knn, encoder: mfcc", "kind: annotations, path: a.csv"), tmp_path / "t.yaml")
    from vlm_audio_pipeline.tasks.multi_label.classifiers.probe import SigmoidProbe

    study = parse_study(STUDY, tmp_path / "t.yaml")
    assert isinstance(study.classifiers["probed"], SigmoidProbe)
    assert study.plain_values()["task"] == "multi_label"


def test_an_unknown_task_and_parts_that_the_task_does_not_have_are_mistakes(tmp_path):
    with pytest.raises(BadStudy, match="task: must be a task, got 'multilabel'"):
        parse_study(STUDY.replace("multi_label", "multilabel"), tmp_path / "t.yaml")
    with pytest.raises(BadStudy, match="analyses: are not available in the task multi_label; remove them"):
        parse_study(STUDY + "analyses: [item_response]\n", tmp_path / "t.yaml")


def test_a_single_label_study_refuses_clips_with_several_classes_or_none(study_file, data_folder):
    study = parse_study(STUDY.replace("task: multi_label\n", ""), study_file)
    with pytest.raises(
        BadDataset, match=r"every clip needs exactly one class, but \d+ of 48 clips have several and \d+ have none"
    ):
        Graph(study, data_folder).dataset()
