"""The real recordings of ESC-10: the built-in study `baselines` in a new data folder, as in the README, and its classifiers."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from vlm_audio_pipeline.classifiers.logistic_regression import fit
from vlm_audio_pipeline.classifiers.probe import Probe, standardisation
from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.stages import contrasts_stage
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, esc10_dataset, predict_all_folds
from vlm_audio_pipeline_tests.classifiers.test_probe import sklearn_reference, tables
from vlm_audio_pipeline_tests.conftest import ESC10_DIR
from vlm_audio_pipeline_tests.evaluation.test_stages import plans, run_stage
from vlm_audio_pipeline_tests.readme import README, RESULTS, assert_figures_agree

# On a busy machine with slow cores the study takes more than the 300 s that a test has.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


LISTENING = """
name: listening
dataset: {kind: esc10}
encoders: {classical: {kind: features}}
classifiers:
  classical_probe: {kind: probe, encoder: classical, c: 0.1}
  classical_knn: {kind: knn, encoder: classical, k: 5}
  annotators: {kind: annotations, source: esc10_annotators}
contrasts: [{classifier: classical_probe, against: [chance, classical_knn]}]
"""


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory) -> DataFolder:
    """A data folder with the finished study."""
    if not ESC10_DIR:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    folder = DataFolder(tmp_path_factory.mktemp("baselines") / "data")
    assert not run_study(Graph(load_study("baselines"), folder)).failed
    return folder


def test_baselines_on_the_official_folds(data_folder, capsys):
    leaderboard = query(data_folder, "SELECT * FROM leaderboard WHERE study = 'baselines'").to_pylist()
    rows = {r["classifier"]: r for r in leaderboard if r["control"] == "none"}
    probe, nearest, annotators = (rows[c] for c in ("classical_probe", "classical_knn", "annotators"))
    # 0.80 is the minimum for a simple classical baseline; 0.830 was measured separately with C chosen on the training folds
    assert probe["accuracy"] >= 0.80
    assert (probe["clips"], probe["folds"], probe["training_clips"]) == (400, "1,2,3,4,5", 320)
    assert 0.5 < nearest["accuracy"] < probe["accuracy"]
    # ESC-10-HumanClassification.xlsx: 4,487 of 4,687 annotations correct, on 321 of the 400 clips
    assert (annotators["correct"], annotators["predictions"], annotators["clips"]) == (4487, 4687, 321)
    assert annotators["rank"] is None and "321 of 400 clips" in annotators["note"]
    folds = query(
        data_folder,
        "SELECT fold, count(*) n, count(DISTINCT source) FROM clips WHERE study = 'baselines' GROUP BY fold ORDER BY fold",
    )
    assert folds["n"].to_pylist() == [80] * 5
    assert query(data_folder, "SELECT count(DISTINCT source) FROM clips WHERE study = 'baselines'").column(
        0
    ).to_pylist() == [304]

    figures = {
        "crowd annotators": annotators,
        "linear probe on MFCC": probe,
        "k-NN (k = 5, cosine) on the same features": nearest,
        "linear probe on the pixels of the image, rendered as in the paper": rows["pixels_probe"],
        "linear probe on the pixels, linear frequency": rows["probe_preset_linear_frequency"],
        "linear probe on the pixels, linear amplitude": rows["probe_preset_linear_amplitude"],
        "linear probe on mean and deviation of the image's rows": rows["rows_probe"],
    }
    assert_figures_agree(RESULTS, "| ESC-10, 400 clips |", figures)
    in_readme = (
        "crowd annotators",
        "linear probe on MFCC",
        "linear probe on the pixels of the image, rendered as in the paper",
    )
    assert_figures_agree(
        README,
        "| ESC-10, 400 clips |",
        {b: figures[b] for b in in_readme},
        other_rows=["BirdNET 2.4", "the same with C", "Whisper base"],
    )

    contrasts = query(data_folder, "SELECT * FROM contrasts WHERE study = 'baselines'").to_pylist()
    for name in ("frequency", "amplitude"):
        [row] = [r for r in contrasts if r["against"] == f"probe_preset_linear_{name}"]
        points = [rounded_text(100 * row[column], 1) for column in ("difference", "low", "high")]
        assert re.search(rf"linear {name}[a-z ]* {points[0]} [^;]*?{points[1]} to {points[2]}\)", RESULTS.read_text())
        assert row["p_holm"] < 0.05
    assert f"correction for {len(contrasts)} contrasts" in RESULTS.read_text()

    # One image, one prediction: a tenth of the clips of a fold are of the predicted class. A few clips have another length, and
    # so another axis of time and another blank image.
    sql = "SELECT fold, count(DISTINCT image_sha256) AS n FROM spectrograms WHERE rendering = 'paper__blank' GROUP BY fold"
    images = {r["fold"]: r["n"] for r in query(data_folder, sql).to_pylist()}
    assert all(n <= 5 for n in images.values())
    sql = "SELECT classifier, fold, count(DISTINCT predicted) AS labels, avg(correct::INT) AS accuracy FROM predictions"
    blank = query(data_folder, f"{sql} WHERE study = 'baselines' AND control = 'blank' GROUP BY ALL").to_pylist()
    assert len(blank) == 4 * 5
    assert all(r["labels"] <= images[r["fold"]] and r["accuracy"] == 0.1 for r in blank)
    accuracy = {(r["classifier"], r["control"]): r["accuracy"] for r in leaderboard}
    for kind in ("probe", "knn"):
        # only the whole image depends on the order in time
        assert accuracy[f"pixels_{kind}", "time_shuffled"] < accuracy[f"pixels_{kind}", "none"] - 0.05
        assert abs(accuracy[f"rows_{kind}", "time_shuffled"] - accuracy[f"rows_{kind}", "none"]) < 0.05
        for encoder in ("pixels", "rows"):  # the prediction follows the other clip's image, which is of another class
            assert accuracy[f"{encoder}_{kind}", "other_clip"] < 0.1

    assert run_and_show(Graph(load_study("baselines"), data_folder)) == 0
    assert re.search(r"^0 steps, 0 runs, [\d.]+ s$", capsys.readouterr().out.splitlines()[-1])


def test_probe_against_knn_on_the_real_recordings(data_folder):
    graph = Graph(load_study("baselines"), data_folder)
    names = ("classical_probe", "classical_knn", "annotators")
    clips = query(data_folder, "SELECT * EXCLUDE (study) FROM clips WHERE study = 'baselines'").to_pylist()
    folds_of = {}
    for clip in clips:
        folds_of.setdefault(clip["source"], set()).add(clip["fold"])
    assert (len(clips), len(folds_of)) == (400, 304)
    assert not [source for source, folds in folds_of.items() if len(folds) > 1], "no source in two folds"

    contrasts = [
        Contrast(classifier="classical_probe", against=("classical_knn", "chance", "majority", "annotators")),
    ]
    stage = contrasts_stage(contrasts, plans(*names), graph.folds, (), limited=False)
    inputs = {f"predictions/{n}": query_predictions(data_folder, n) for n in names}
    rows = run_stage(stage, graph.dataset(), inputs)["contrasts"].to_pylist()
    for row in rows:
        print(row["statement"])  # noqa: T201
    knn, chance, majority, annotators = rows
    assert (knn["clips"], knn["sources"], knn["p_method"]) == (400, 304, "sign flips by source recording, exact")
    assert 0.80 <= knn["accuracy"] <= 0.87 and knn["accuracy"] > knn["against_accuracy"]
    # the discordant clips give the difference; with independent clips the standard error would be smaller
    b, c = knn["correct_only_classifier"], knn["correct_only_against"]
    assert knn["difference"] == pytest.approx((b - c) / 400)
    assert knn["low"] < knn["difference"] < knn["high"]
    by_clip = ((b + c) / 400 - ((b - c) / 400) ** 2) ** 0.5 / 20
    assert 1.0 < (knn["high"] - knn["low"]) / (2 * 1.96 * by_clip) < 1.4
    assert knn["verdict"] == chance["verdict"] == majority["verdict"] == "better"
    assert (chance["against_accuracy"], majority["against_accuracy"]) == (pytest.approx(0.1), pytest.approx(0.1))
    # from the published annotations: 321 clips, mean over clips 0.955
    assert (annotators["clips"], annotators["verdict"]) == (321, "worse")
    assert annotators["against_accuracy"] == pytest.approx(0.955, abs=5e-4)


def query_predictions(data_folder, name):
    partition_files = sorted((data_folder.tables / "predictions" / "study=baselines").rglob("*.parquet"))
    tables = [read_partition(p, TABLES["predictions"])[0] for p in partition_files]
    return pa.concat_tables([t for t in tables if t["classifier"][0].as_py() == name])


def penalised_loss(weights, intercepts, z, y, c):
    logits = z @ weights.T + intercepts
    logits -= logits.max(axis=1, keepdims=True)
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    return c * cross_entropy.sum() + np.square(weights).sum() / 2


def test_classical_features_on_the_official_folds(data_folder):
    rows = """SELECT vector, correct FROM clips JOIN embeddings USING (study, clip) JOIN predictions USING (study, clip)
        WHERE study = 'baselines' AND embeddings.encoder = 'classical' AND classifier = 'classical_probe' ORDER BY clip"""
    stored = query(data_folder, rows)
    data = esc10_dataset()
    clips = clips_table(data.clips)
    assert clips["clip"].to_pylist() == sorted(clips["clip"].to_pylist())
    x, correct = np.array(stored["vector"].to_pylist(), np.float32), stored["correct"].to_pylist()
    assert (len(correct), sum(correct)) == (400, 335)
    # as after any other rounding of the vectors, on any machine
    disturbed = x.astype(np.float64) * (1 + 1e-7 * np.random.default_rng(0).standard_normal(x.shape))
    again = predict_all_folds(Probe(encoder="e"), "classical", data, tables(clips, disturbed))
    assert again["correct"].to_pylist() == correct
    # scikit-learn alone with C = 0.1 for every fold: 340
    fixed = predict_all_folds(Probe(encoder="e", c=0.1), "classical", data, tables(clips, x))
    expected = [sklearn_reference(clips, x, fold, 0.1)[1].argmax(1) for fold in data.folds]
    labels, folds = np.unique(clips["label"].to_pylist(), return_inverse=True)[1], clips["fold"].to_numpy()
    reference = sum(int(np.sum(p == labels[folds == fold])) for fold, p in zip(data.folds, expected, strict=True))
    assert sum(fixed["correct"].to_pylist()) == reference == 340
    # scikit-learn's default tolerance, 1e-4, stops far above the optimum that `fit` reaches
    for fold in data.folds:
        mean, scale = standardisation(x[folds != fold].astype(np.float64))
        z, y = (x[folds != fold] - mean) / scale, labels[folds != fold]
        loose = LogisticRegression(C=100, max_iter=10_000).fit(z, y)
        [(weights, intercepts)] = fit(z, y, (100.0,))
        optimum = penalised_loss(weights, intercepts, z, y, 100)
        assert penalised_loss(loose.coef_, loose.intercept_, z, y, 100) > 1.03 * optimum


def test_a_single_file_of_real_recordings(data_folder, tmp_path):
    assert run_and_show(Graph(parse_study(LISTENING, tmp_path / "listening.yaml"), data_folder)) == 0
    page = write_report(data_folder, "listening", tmp_path / "report.html", single_file=True)
    assert page.stat().st_size < 15_000_000
    text = page.read_text()
    core = json.loads(re.search(r'id="core">(.*?)</script>', text, re.DOTALL)[1])
    assert len([name for name in core["audio"] if name]) == 200
    assert {len([n for n in names if n]) for names in core["images"].values()} == {200}
    assert "This single file contains images and audio of 200 of 400 clips" in text
    assert "<b>classical_probe</b> has the highest accuracy" in text
    assert "4,487 of 4,687 annotations correct, on 321 of 400 clips" in text  # ESC-10-HumanClassification.xlsx
    assert "rose_bark.wav" in text  # the attribution of the first recording in the dataset's README
