import csv
import io
import json
import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation import projections
from vlm_audio_pipeline.planning.execution import execute_node
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.reports.export import export_study, write_csv
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.study_records import study_record, write_study_record
from vlm_audio_pipeline.studies.loading import load_study

STUDY = """\
name: sound
description: Which classifier is best?
dataset: {kind: synthetic, clips: 16, n_folds: 2, duration_s: 1, classes: [dog, rain]}
encoders:
  bands: {kind: scripted}
  other: {kind: scripted, seed: 1}
classifiers:
  far: {kind: knn, encoder: other, k: 5}
  near: {kind: knn, encoder: bands, k: 1}
  linear: {kind: probe, encoder: bands, c: 1}
"""


def run(text: str, folder: Path) -> DataFolder:
    """Run the steps of a study, without Dagster, and return its data folder.

    PCA stands in for UMAP, which compiles itself for longer than everything else takes.
    """
    (folder / "study.yaml").write_text(text)
    data_folder = DataFolder(folder / "data")
    graph = Graph(load_study(folder / "study.yaml"), data_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projections, "umap_points", lambda x, *_: projections.pca_points(x)[0])
        for node in graph.nodes:
            execute_node(graph, node)
    publish_study(graph)
    return data_folder


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    return run(STUDY, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def study_export(data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "deep" / "export"
    return export_study(data_folder, "sound", folder), folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_an_export(study_export):
    written, folder = study_export
    dataset_clips = ("clips", "rejected_clips", "predictions")
    counted = (
        "metrics",
        "confusion",
        "reliability",
        "leaderboard",
        "embedding_quality",
        "embedding_comparisons",
        "projections",
        "leakage",
        "history",
    )
    assert {p.name for p in written} == {
        *(f"{t}.{suffix}" for t in (*dataset_clips, *counted) for suffix in ("csv", "parquet")),
        "embeddings.parquet",
        "probes.parquet",
        "leaderboard.tex",
        "references.bib",
        "provenance.json",
    }
    assert sorted(folder.iterdir()) == sorted(written)  # and no temporary file is left


def test_tables_are_the_rows_of_the_study(study_export):
    _, folder = study_export
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


def test_nested_columns_are_json(study_export):
    _, folder = study_export
    assert {json.loads(r["extra"])["take"] for r in read(folder / "clips.csv")} == {"A", "B"}
    for row in read(folder / "predictions.csv"):
        scores = json.loads(row["scores"])
        assert set(scores) == {"dog", "rain"}
        assert sum(scores.values()) == pytest.approx(1)


def test_the_leaderboard_is_sorted_by_rank(study_export):
    _, folder = study_export
    rows = [row for row in read(folder / "leaderboard.csv") if row["kind"] != "reference"]
    assert sorted(r["classifier"] for r in rows) == ["far", "linear", "near"]
    assert [int(r["rank"]) for r in rows] == sorted(int(r["rank"]) for r in rows)
    tex = (folder / "leaderboard.tex").read_text()
    for row in rows:
        interval = f"{rounded_text(float(row['accuracy_low']), 3)}--{rounded_text(float(row['accuracy_high']), 3)}"
        assert (
            f"{row['rank']} & {row['classifier']} & score & {rounded_text(float(row['accuracy']), 3)} & {interval} & 16 & "
            in tex
        )


def test_provenance(study_export, data_folder):
    _, folder = study_export
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["study"] == "sound"
    assert provenance["exported_with"]["program"] == {"name": "vlm-audio-pipeline", "version": __version__}
    assert provenance["exported_with"]["packages"]["pyarrow"] == pa.__version__
    assert provenance["exported_with"]["device"]["cpu"]
    assert provenance["dataset"]["card"]["licence"] == "CC0-1.0"
    model = {"model": "scripted", "revision": None, "dtype": "float32", "dimensions": 8}
    assert provenance["models"]["encoders"] == [{"encoder": "bands", **model}, {"encoder": "other", **model}]
    assert [(m["classifier"], m["kind"], m["encoder"]) for m in provenance["models"]["classifiers"]] == [
        ("far", "knn", "other"),
        ("linear", "probe", "bands"),
        ("near", "knn", "bands"),
    ]
    assert provenance["rows"]["predictions"] == 48
    assert provenance["missing_files"] == provenance["damaged_files"] == []
    assert provenance["study_file"]["current_text"] == STUDY
    assert provenance["study_as_run"]["classifiers"]["far"]["metric"] == "cosine"
    entries = {p["file"]: p for p in provenance["partition_files"]}
    near = entries["tables/predictions/study=sound/classifier=near/fold=1/part-0.parquet"]
    assert near["step"] == "predictions/near"
    bands = entries["tables/embeddings/study=sound/encoder=bands/fold=1/part-0.parquet"]
    assert near["inputs"]["embeddings/bands|1"] == bands["data_version"]
    assert set(near["details"]) >= {"made_at", "seconds", "package_version"}
    # every partition file on disk except that of the report; the study has no images
    files = {p.relative_to(data_folder.root).as_posix() for p in data_folder.tables.rglob("*.parquet")}
    assert set(entries) == {name for name in files if not name.startswith("tables/report/")}
    assert provenance["cards"]["bands"]["training_data"] == "none"


def test_references_of_a_dataset_without_citation(study_export):
    _, folder = study_export
    bib = (folder / "references.bib").read_text()
    assert bib.startswith("% Synthetic sounds of the ten classes of ESC-10\n% licence: CC0-1.0\n")
    assert "@software{vlm_audio_pipeline," in bib
    assert f"version = {{{__version__}}}" in bib


def test_publications_that_a_study_repeats_are_cited(tmp_path):
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("k: 5}", "k: 5, reproduces: can-vlms-hear/deepseek-ai/Janus-Pro-7B}")
    )
    data_folder = DataFolder(tmp_path / "data")
    graph = Graph(load_study(tmp_path / "study.yaml"), data_folder)
    execute_node(graph, Node("published"))
    publish_study(graph)
    export_study(data_folder, "sound", tmp_path / "out")
    [row] = read(tmp_path / "out" / "published.csv")
    assert row["classifier"] == "far"
    assert (row["publication"], row["title"]) == ("can-vlms-hear", "Can VLMs Hear What They See?")
    assert row["url"] == "https://github.com/harpreetsahota204/can-vlms-hear"
    bib = (tmp_path / "out" / "references.bib").read_text()
    assert (
        "% published result: Can VLMs Hear What They See?\n% https://github.com/harpreetsahota204/can-vlms-hear\n"
        in bib
    )
    assert "@misc{can-vlms-hear,\n" in bib and "2411.12058" not in bib


def test_a_study_that_repeats_nothing_exports_no_published_results(study_export):
    _, folder = study_export
    assert not (folder / "published.csv").exists()
    assert "published result" not in (folder / "references.bib").read_text()


def test_missing_and_damaged_partition_files_are_named(data_folder, tmp_path):
    shutil.copytree(data_folder.root, tmp_path / "data")
    copied_folder = DataFolder(tmp_path / "data")
    copied_folder.partition_file("predictions", "sound", "near", 1).unlink()
    damaged = copied_folder.partition_file("clips", "sound", None, 2)
    damaged.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(VlmAudioError) as caught:
        export_study(copied_folder, "sound", tmp_path / "out")
    assert str(caught.value) == (
        f"damaged partition files: {damaged}. Their rows are missing in {tmp_path / 'out'}. "
        "Delete these files and run the study again."
    )
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["damaged_files"] == ["tables/clips/study=sound/fold=2/part-0.parquet"]
    assert provenance["missing_files"] == ["tables/predictions/study=sound/classifier=near/fold=1/part-0.parquet"]
    assert provenance["rows"]["clips"] == 8
    assert provenance["rows"]["predictions"] == 40


def test_partition_files_that_do_not_exist_yet_are_no_error(data_folder, tmp_path):
    shutil.copytree(data_folder.root, tmp_path / "data")
    copied_folder = DataFolder(tmp_path / "data")
    copied_folder.partition_file("predictions", "sound", "near", 1).unlink()
    assert tmp_path / "out" / "predictions.csv" in export_study(copied_folder, "sound", tmp_path / "out")
    assert len(read(tmp_path / "out" / "predictions.csv")) == 40  # 48 less the 8 of that fold


def test_an_export_replaces_an_earlier_one(data_folder, tmp_path):
    export_study(data_folder, "sound", tmp_path)
    (tmp_path / "leaderboard.tex").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    export_study(data_folder, "sound", tmp_path)
    assert (tmp_path / "leaderboard.tex").read_text().startswith(r"\begin{table}")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_export_replaces_no_other_files(data_folder, tmp_path):
    (tmp_path / "clips.csv").write_text("path,label\n")
    with pytest.raises(VlmAudioError, match="other content; choose another folder"):
        export_study(data_folder, "sound", tmp_path)
    with pytest.raises(VlmAudioError, match="other content"):
        export_study(data_folder, "sound", tmp_path / "clips.csv")
    assert (tmp_path / "clips.csv").read_text() == "path,label\n"


def test_without_the_dataset_the_rest_is_exported(data_folder, tmp_path):
    shutil.copytree(data_folder.root, tmp_path / "data")
    copied_folder = DataFolder(tmp_path / "data")
    record = study_record(copied_folder, "sound")
    record["study"]["dataset"] = {"kind": "csv", "path": "/gone/clips.csv"}
    record["file"] = "/gone/study.yaml"
    write_study_record(copied_folder, "sound", record)
    export_study(copied_folder, "sound", tmp_path / "out")
    assert (
        (tmp_path / "out" / "references.bib").read_text().startswith("% no citation of dataset csv: /gone/clips.csv ")
    )
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["dataset"]["card"] is None
    assert provenance["study_file"] == {"path": "/gone/study.yaml", "current_text": None}


def test_the_citation_of_the_dataset_is_exported(data_folder, tmp_path):
    shutil.copytree(data_folder.root, tmp_path / "data")
    copied_folder = DataFolder(tmp_path / "data")
    (esc50,) = copied_folder.datasets.glob("synthetic-*")  # it has the folder structure of ESC-50
    record = study_record(copied_folder, "sound")
    record["study"]["dataset"] = {"kind": "esc50", "path": str(esc50)}
    write_study_record(copied_folder, "sound", record)
    export_study(copied_folder, "sound", tmp_path / "out")
    bib = (tmp_path / "out" / "references.bib").read_text()
    assert "author = {Piczak, Karol J.}" in bib
    assert "% licence: CC BY-NC 3.0" in bib


def test_a_study_that_was_not_run(data_folder, tmp_path):
    with pytest.raises(VlmAudioError) as caught:
        export_study(data_folder, "sounds", tmp_path / "out")
    assert str(caught.value) == (
        f"study 'sounds' has no results in {data_folder.root}; run it first (`vlm-audio run sounds`), or choose another; "
        "did you mean 'sound'? options: sound"
    )
    assert not (tmp_path / "out").exists()


def test_a_data_folder_without_any_study(tmp_path):
    with pytest.raises(VlmAudioError, match=r"study 'demo' has no results in .*; options: none"):
        export_study(DataFolder(tmp_path), "demo", tmp_path / "out")


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
            "image": pa.array([b"\x89PNG", b""], pa.binary()),
        }
    )
    back = list(csv.DictReader(io.StringIO(text_of(rows))))
    assert back == [
        {"scores": '{"é": 0.5, "b": null}', "vector": "[0.5, 2.0]", "deep": '{"m": {"k": [1]}}'},
        {"scores": "", "vector": "[]", "deep": ""},
    ]


def test_csv_of_every_sql_type():
    rows = duckdb.sql(
        "SELECT NULL AS nothing, 1.50::DECIMAL(5, 2) AS d, sum(i) AS s, DATE '2026-01-02' AS day, INTERVAL 3 DAY AS span,"
        " 'a'::ENUM('a', 'b') AS e, true AS b, 1 AS twice, 2 AS twice FROM range(4) t(i)"
    ).to_arrow_table()
    (header, values) = csv.reader(io.StringIO(text_of(rows)))
    assert header[:7] == ["nothing", "d", "s", "day", "span", "e", "b"]
    assert (values[0], Decimal(values[1]), values[2]) == ("", Decimal("1.5"), "6")
    assert (date.fromisoformat(values[3]), values[5:]) == (date(2026, 1, 2), ["a", "true", "1", "2"])
    assert "3" in values[4]


def test_csv_of_repeated_column_names_and_durations():
    rows = pa.Table.from_arrays([pa.array([1]), pa.array([timedelta(days=1)])], names=["a", "a"])
    assert text_of(rows) == '"a","a"\n1,"1 day, 0:00:00"\n'


def test_csv_is_written_to_a_path(tmp_path):
    write_csv(pa.table({"n": [1]}), tmp_path / "n.csv")
    assert (tmp_path / "n.csv").read_text() == '"n"\n1\n'
