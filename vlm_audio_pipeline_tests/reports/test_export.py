import csv
import io
import json
import shutil
import subprocess
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.planning.execution import execute
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.publishing import publish
from vlm_audio_pipeline.reports.export import escape_tex, export_study, leaderboard_tex, write_csv
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.reports.rows import BEST, NOT_RUN, PART, leaderboard

STUDY = """\
name: sound
description: Who hears best?
dataset: {kind: synthetic, clips: 16, n_folds: 2, duration_s: 1, classes: [dog, rain]}
encoders:
  bands: {kind: scripted}
  other: {kind: scripted, seed: 1}
classifiers:
  far: {kind: knn, encoder: other, k: 5}
  near: {kind: knn, encoder: bands, k: 1}
  learnt: {kind: probe, encoder: bands, c: 1}
"""


def run(text: str, folder: Path) -> Layout:
    """Run a study step by step, without Dagster."""
    (folder / "study.yaml").write_text(text)
    layout = Layout(folder / "data")
    graph = Graph(load_study(folder / "study.yaml"), layout)
    for node in graph.nodes:
        execute(graph, node)
    publish(graph)
    return layout


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return run(STUDY, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def exported(layout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "deep" / "export"
    return export_study(layout, "sound", folder), folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written(exported):
    written, folder = exported
    of_clips = ("clips", "rejected_clips", "predictions")
    counted = (
        "metrics",
        "confusion",
        "reliability",
        "leaderboard",
        "embedding_quality",
        "projections",
        "leakage",
        "published",
        "history",
    )
    assert {p.name for p in written} == {
        *(f"{t}.{suffix}" for t in (*of_clips, *counted) for suffix in ("csv", "parquet")),
        "embeddings.parquet",
        "probes.parquet",
        "leaderboard.tex",
        "references.bib",
        "provenance.json",
    }
    assert sorted(folder.iterdir()) == sorted(written)  # and no temporary file is left


def test_tables_are_the_rows_of_the_study(exported):
    _, folder = exported
    # 16 clips; 2 encoders; 3 classifiers
    for table, rows in (("clips", 16), ("embeddings", 32), ("predictions", 48), ("rejected_clips", 0)):
        parquet = pq.read_table(folder / f"{table}.parquet")
        assert parquet.schema.equals(TABLES[table].arrow)
        assert parquet.num_rows == rows
        assert set(parquet["study"].to_pylist()) <= {"sound"}
    assert (
        pq.read_schema(folder / "clips.parquet").field("peak").metadata[b"doc"]
        == b"largest absolute sample, 1 = full scale"
    )
    for table in ("clips", "rejected_clips", "predictions", "metrics", "confusion", "leaderboard"):
        rows = read(folder / f"{table}.csv")
        parquet = pq.read_table(folder / f"{table}.parquet")
        assert len(rows) == parquet.num_rows
        header = (folder / f"{table}.csv").read_text().splitlines()[0]
        assert header.replace('"', "").split(",") == TABLES[table].arrow.names


def test_nested_columns_are_json(exported):
    _, folder = exported
    assert {json.loads(r["kept"])["take"] for r in read(folder / "clips.csv")} == {"A", "B"}
    for row in read(folder / "predictions.csv"):
        scores = json.loads(row["scores"])
        assert set(scores) == {"dog", "rain"}
        assert sum(scores.values()) == pytest.approx(1)


def test_the_leaderboard_comes_best_first(exported):
    _, folder = exported
    rows = [row for row in read(folder / "leaderboard.csv") if row["kind"] != "reference"]
    assert sorted(r["classifier"] for r in rows) == ["far", "learnt", "near"]
    assert [int(r["rank"]) for r in rows] == sorted(int(r["rank"]) for r in rows)
    tex = (folder / "leaderboard.tex").read_text()
    for row in rows:
        interval = f"{float(row['accuracy_low']):.3f}--{float(row['accuracy_high']):.3f}"
        assert f"{row['rank']} & {row['classifier']} & score & {float(row['accuracy']):.3f} & {interval} & 16 & " in tex


def test_provenance(exported, layout):
    _, folder = exported
    told = json.loads((folder / "provenance.json").read_text())
    assert told["study"] == "sound"
    assert told["exported_with"]["program"] == {"name": "vlm-audio-pipeline", "version": __version__}
    assert told["exported_with"]["packages"]["pyarrow"] == pa.__version__
    assert told["exported_with"]["device"]["cpu"]
    assert told["dataset"]["card"]["licence"] == "CC0-1.0"
    about = {"model": "scripted", "revision": None, "dtype": "float32", "dimensions": 8}
    assert told["models"]["encoders"] == [{"encoder": "bands", **about}, {"encoder": "other", **about}]
    assert [(m["classifier"], m["kind"], m["encoder"]) for m in told["models"]["classifiers"]] == [
        ("far", "knn", "other"),
        ("learnt", "probe", "bands"),
        ("near", "knn", "bands"),
    ]
    assert told["rows"]["predictions"] == 48
    assert told["missing_parts"] == told["damaged_parts"] == []
    assert told["study_file"]["text_now"] == STUDY
    assert told["study_as_run"]["classifiers"]["far"]["metric"] == "cosine"
    parts = {p["file"]: p for p in told["parts"]}
    near = parts["tables/predictions/study=sound/classifier=near/fold=1/part-0.parquet"]
    assert near["step"] == "predictions/near"
    bands = parts["tables/embeddings/study=sound/encoder=bands/fold=1/part-0.parquet"]
    assert near["inputs"]["embeddings/bands|1"] == bands["data_version"]
    assert set(near["details"]) >= {"made_at", "seconds", "package_version"}
    # every part on disk but pictures, of which there are none, and where the page lies
    there = {p.relative_to(layout.root).as_posix() for p in layout.tables.rglob("*.parquet")}
    assert set(parts) == {name for name in there if not name.startswith("tables/report/")}
    assert told["cards"]["bands"]["training_data"] == "none"


def test_references_of_a_dataset_without_citation(exported):
    _, folder = exported
    bib = (folder / "references.bib").read_text()
    assert bib.startswith("% Synthetic sounds of the ten classes of ESC-10\n% licence: CC0-1.0\n")
    assert "@software{vlm_audio_pipeline," in bib
    assert f"version = {{{__version__}}}" in bib


def test_parts_that_are_missing_or_damaged_are_named(layout, tmp_path):
    shutil.copytree(layout.root, tmp_path / "data")
    there = Layout(tmp_path / "data")
    there.part("predictions", "sound", "near", 1).unlink()
    damaged = there.part("clips", "sound", None, 2)
    damaged.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(VlmAudioError) as caught:
        export_study(there, "sound", tmp_path / "out")
    assert str(caught.value) == (
        f"parts to export must be readable, got damaged ones: {damaged}; their rows are not in {tmp_path / 'out'}; "
        "delete them and run the study again"
    )
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["damaged_parts"] == ["tables/clips/study=sound/fold=2/part-0.parquet"]
    assert told["missing_parts"] == ["tables/predictions/study=sound/classifier=near/fold=1/part-0.parquet"]
    assert told["rows"]["clips"] == 8
    assert told["rows"]["predictions"] == 40


def test_parts_that_were_not_made_yet_are_no_error(layout, tmp_path):
    shutil.copytree(layout.root, tmp_path / "data")
    there = Layout(tmp_path / "data")
    there.part("predictions", "sound", "near", 1).unlink()
    assert tmp_path / "out" / "predictions.csv" in export_study(there, "sound", tmp_path / "out")
    assert len(read(tmp_path / "out" / "predictions.csv")) == 40  # 48 less the 8 of that fold


def test_an_export_replaces_an_earlier_one(layout, tmp_path):
    (tmp_path / "leaderboard.tex").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    export_study(layout, "sound", tmp_path)
    assert (tmp_path / "leaderboard.tex").read_text().startswith(r"\begin{table}")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_dataset_that_went_away_leaves_the_rest(layout, tmp_path):
    shutil.copytree(layout.root, tmp_path / "data")
    there = Layout(tmp_path / "data")
    manifest = json.loads((there.studies / "sound.json").read_text())
    manifest["study"]["dataset"] = {"kind": "csv", "path": "/gone/clips.csv"}
    manifest["file"] = "/gone/study.yaml"
    (there.studies / "sound.json").write_text(json.dumps(manifest))
    export_study(there, "sound", tmp_path / "out")
    assert (
        (tmp_path / "out" / "references.bib")
        .read_text()
        .startswith("% no citation of dataset csv: /gone/clips.csv must be ")
    )
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["dataset"]["card"] is None
    assert told["study_file"] == {"path": "/gone/study.yaml", "text_now": None}


def test_the_citation_of_a_dataset_comes_along(layout, tmp_path):
    shutil.copytree(layout.root, tmp_path / "data")
    there = Layout(tmp_path / "data")
    (esc50,) = there.datasets.glob("synthetic-*")  # which lies there in the layout of ESC-50
    manifest = json.loads((there.studies / "sound.json").read_text())
    manifest["study"]["dataset"] = {"kind": "esc50", "path": str(esc50)}
    (there.studies / "sound.json").write_text(json.dumps(manifest))
    export_study(there, "sound", tmp_path / "out")
    bib = (tmp_path / "out" / "references.bib").read_text()
    assert "author = {Piczak, Karol J.}" in bib
    assert "% licence: CC BY-NC 3.0" in bib


def test_a_study_that_was_not_run(layout, tmp_path):
    with pytest.raises(VlmAudioError) as caught:
        export_study(layout, "sounds", tmp_path / "out")
    assert str(caught.value) == (
        f"a study to export must have been run in {layout.root}, got 'sounds'; did you mean 'sound'? options: sound"
    )
    assert not (tmp_path / "out").exists()


def test_a_data_folder_without_any_study(tmp_path):
    with pytest.raises(VlmAudioError, match="got 'demo'; options: none"):
        export_study(Layout(tmp_path), "demo", tmp_path / "out")


def text_of(rows: pa.Table) -> str:
    file = io.BytesIO()
    write_csv(rows, file)
    return file.getvalue().decode()


def test_csv_of_plain_columns():
    rows = pa.table({"text": ['say "a", b', None, "", "é"], "n": [1, None, 3, 4], "x": [0.1, None, 2.0, 1e-9]})
    assert text_of(rows) == '"text","n","x"\n"say ""a"", b",1,0.1\n,,\n"",3,2\n"é",4,1e-9\n'


def test_csv_of_nested_columns():
    rows = pa.table(
        {
            "scores": pa.array([[("é", 0.5), ("b", None)], None], pa.map_(pa.string(), pa.float64())),
            "vector": pa.array([[0.5, 2.0], []], pa.list_(pa.float32())),
            "deep": pa.array(
                [{"m": [("k", [1])]}, None], pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.int64())))])
            ),
            "picture": pa.array([b"\x89PNG", b""], pa.binary()),
        }
    )
    back = list(csv.DictReader(io.StringIO(text_of(rows))))
    assert back == [
        {"scores": '{"é": 0.5, "b": null}', "vector": "[0.5, 2.0]", "deep": '{"m": {"k": [1]}}'},
        {"scores": "", "vector": "[]", "deep": ""},
    ]


def test_csv_of_whatever_sql_gives():
    rows = duckdb.sql(
        "SELECT NULL AS nothing, 1.50::DECIMAL(5, 2) AS d, sum(i) AS s, DATE '2026-01-02' AS day, INTERVAL 3 DAY AS span,"
        " 'a'::ENUM('a', 'b') AS e, true AS b, 1 AS twice, 2 AS twice FROM range(4) t(i)"
    ).to_arrow_table()
    (header, values) = csv.reader(io.StringIO(text_of(rows)))
    assert header[:7] == ["nothing", "d", "s", "day", "span", "e", "b"]
    assert (values[0], Decimal(values[1]), values[2]) == ("", Decimal("1.5"), "6")
    assert (date.fromisoformat(values[3]), values[5:]) == (date(2026, 1, 2), ["a", "true", "1", "2"])
    assert "3" in values[4]


def test_csv_of_names_that_repeat_and_of_durations():
    rows = pa.Table.from_arrays([pa.array([1]), pa.array([timedelta(days=1)])], names=["a", "a"])
    assert text_of(rows) == '"a","a"\n1,"1 day, 0:00:00"\n'


def test_csv_goes_to_a_path(tmp_path):
    write_csv(pa.table({"n": [1]}), tmp_path / "n.csv")
    assert (tmp_path / "n.csv").read_text() == '"n"\n1\n'


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("50% & $5 #1", r"50\% \& \$5 \#1"),
        ("{x}^2~\\", r"\{x\}\textasciicircum{}2\textasciitilde{}\textbackslash{}"),
        ("a<b>c|d", r"a\textless{}b\textgreater{}c\textbar{}d"),
        ("two\nlines", "two lines"),
    ],
)
def test_escaping(text, escaped):
    assert escape_tex(text) == escaped


def test_a_latex_table():
    tex = leaderboard_tex(leaderboard(BEST, PART, NOT_RUN), "my_study", "50% of what? ")
    lines = [line.strip() for line in tex.splitlines()]
    assert r"1 & best\_probe & score & 0.750 & -- & 40 & 0.732 & 20 \\" in lines
    assert r"-- & part @ blank & score & 0.100 & -- & 20 & -- & -- \\" in lines
    assert r"-- & absent & -- & -- & -- & -- & -- & -- \\" in lines
    assert r"\par\smallskip{\footnotesize absent: not run: weights of [x] missing, 100\% \& \$HOME\_DIR}" in lines
    clustered = "intervals are clustered by source recording."
    assert rf"\caption{{my\_study: 50\% of what? Accuracy is a share of 1, over $n$ predictions; {clustered}}}" in lines
    assert [r"\toprule" in lines, r"\midrule" in lines, r"\bottomrule" in lines] == [True] * 3
    assert r"\caption{bare. Accuracy is" in leaderboard_tex(leaderboard(), "bare")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_takes_it(tmp_path):
    table = leaderboard_tex(leaderboard(BEST, PART, NOT_RUN), "my_study", r"50% of {what} \ and ~ ^ < > | #?")
    before = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    document = before + table + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(document)
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout[-2000:]
