"""Where output is written: full disks, read-only data folders, `sql` in every format, arguments that are no paths."""

import csv
import io
import json
import logging
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline_tests.cli.program import PROGRAM, assert_refused, query_results, run_command, vlm_audio

JOIN = "SELECT p.*, c.* FROM predictions p JOIN clips c USING (study, clip) ORDER BY ALL LIMIT 3"


@contextmanager
def full_disk(size):
    """A limit of the file size is a disk that is full after `size` bytes of each file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python would store a part of a module
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = writes_bytecode


COMMANDS = {
    "export": ("export", "bench", "--out", "{out}"),
    "annotation sheet": ("annotation-sheet", "bench", "--out", "{out}/sheet.html"),
    "fiftyone": ("fiftyone", "bench", "--export", "{out}"),
    "page in one file": ("report", "{study}", "--single-file", "{out}/page.html"),
    "images": ("render", "{study}", "plain", "--out", "{out}"),
    "presets": ("renderings", "--out", "{out}/presets.png"),
    "study file": ("init", "{listing}", "--out", "{out}/study.yaml"),
}


@pytest.fixture(scope="module")
def with_images(first_run, tmp_path_factory):
    """A study that was run, with images."""
    bench = first_run[0].copy_to(tmp_path_factory.mktemp("images") / "bench")
    bench.study["renderings"] = {"small": {"preset": "plain", "width": 64, "height": 64}}
    bench.run()
    time.sleep(0.2)  # s; digests of files are stored when the files are 0.1 s old
    graph = bench.graph()
    make_plan(graph, current_input_versions(graph))
    yield bench  # with an open result store, whose files exist, so that only the output meets the full disk
    graph.result_store.close()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "presets" else []) for n in COMMANDS]
)
def test_a_full_disk_gives_one_sentence_and_leaves_no_file(with_images, tmp_path, name):
    bench, out = with_images, tmp_path / "out"
    places = {"{out}": out, "{study}": bench.folder / "bench.yaml", "{listing}": bench.folder / "clips.csv"}
    arguments = []
    for argument in COMMANDS[name]:
        for place, path in places.items():
            argument = argument.replace(place, str(path))
        arguments.append(argument)
    data = None if name in ("presets", "study file") else bench.data_folder.root
    with full_disk(30):
        result = vlm_audio(*arguments, data=data)
    assert_refused(result, str(out), "File too large; free space or use another path")
    assert len(result.err.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_output_to_a_full_disk_gives_one_sentence(results, output_format):
    command = [PROGRAM, "sql", "FROM clips", "--format", output_format, "--data", results.data_folder.root]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr == (
        "error: cannot read or write the output: No space left on device; free space or use another path\n"
    )


@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_columns_with_one_name_are_shown_in_every_format(results, output_format):
    result = vlm_audio("sql", JOIN, "--format", output_format, data=results.data_folder.root)
    assert result.code == 0, result.err
    assert "clip_1" in result.out and "label_1" in result.out


def test_columns_with_one_name_keep_their_values(results):
    query = "SELECT 1 AS a, 2 AS a, 3 AS a"
    assert query_results(results, query) == [{"a": 1, "a_1": 2, "a_2": 3}]
    out = vlm_audio("sql", query, "--format", "csv", data=results.data_folder.root).out
    assert list(csv.reader(io.StringIO(out))) == [["a", "a_1", "a_2"], ["1", "2", "3"]]


def test_undefined_numbers_are_null_in_json(results):
    query = "SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, ['inf'::DOUBLE, 1.5] AS c, {'d': 'nan'::DOUBLE} AS d"
    out = vlm_audio("sql", query, "--format", "json", data=results.data_folder.root).out
    assert json.loads(out, parse_constant=lambda name: pytest.fail(name)) == [
        {"a": None, "b": None, "c": [None, 1.5], "d": {"d": None}}
    ]


def test_sql_reads_only_the_data_folder_unless_it_is_allowed(results, tmp_path):
    (tmp_path / "other.csv").write_text("a\n1\n")
    for query in (f"FROM '{tmp_path}/other.csv'", f"COPY (SELECT 1) TO '{tmp_path}/new.csv'"):
        assert_refused(vlm_audio("sql", query, data=results.data_folder.root))
        assert not (tmp_path / "new.csv").exists()
        assert vlm_audio("sql", query, "--allow-files", data=results.data_folder.root).code == 0
    assert (tmp_path / "new.csv").exists()


def test_formulas_are_text_in_csv(results):
    query = "SELECT '=1+1' AS \"=name\", -1 AS n, '-x' AS t"
    out = vlm_audio("sql", query, "--format", "csv", data=results.data_folder.root).out
    assert list(csv.reader(io.StringIO(out))) == [["'=name", "n", "t"], ["'=1+1", "-1", "'-x"]]


def can_mount():
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99; shift; exec "$@"'


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this system does not allow to mount a file system")
@pytest.mark.parametrize("catalogue", ["current", "missing"])
@pytest.mark.parametrize("arguments", [("leaderboard",), ("show", "{clip}"), ("sql", "SELECT count(*) FROM clips")])
def test_results_in_a_read_only_data_folder_are_shown(done, arguments, catalogue):
    data = done.data_folder.root
    if catalogue == "missing":
        done.data_folder.catalogue.unlink(missing_ok=True)
    words = [word.replace("{clip}", done.rows[0]["id"]) for word in arguments]
    command = ["unshare", "-rm", "sh", "-c", READ_ONLY, "sh", data, PROGRAM, *words, "--data", data]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "a\0b"),
        ("plan", "demo", "--data", "a\0b"),
        ("init", "a\0b.csv"),
        ("export", "bench", "--out", "a\0b", "--data", "{data}"),
        ("renderings", "--out", "a\0b"),
        ("try", "a\0b", "--study", "demo", "--classifier", "janus", "--data", "{data}"),
        ("report", "bench", "--single-file", "a\0b", "--data", "{data}"),
    ],
)
def test_a_nul_byte_in_an_argument_is_reported(results, arguments):
    result = vlm_audio(*(word.replace("{data}", str(results.data_folder.root)) for word in arguments))
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "NUL byte" in result.err or "null byte" in result.err  # the second by click, for arguments that are paths
    assert "\0" not in result.err


@pytest.mark.parametrize(
    "odd", ["a\0b", "\udcff", "\x1b[31m[/x]", "x" * 5000], ids=["NUL", "not UTF-8", "codes", "long"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "{odd}"),
        ("leaderboard", "{odd}"),
        ("sql", "{odd}"),
        ("sql", "SELECT '{odd}'", "--format", "json"),
        ("run", "{odd}"),
    ],
)
def test_odd_arguments_are_reported_like_other_mistakes(results, arguments, odd):
    result = vlm_audio(*(word.replace("{odd}", odd) for word in arguments), data=results.data_folder.root)
    assert result.code == 2 or arguments[0] == "sql"
    assert "Traceback" not in result.err
    assert "\x1b" not in result.err + result.out


def test_a_nul_byte_in_a_study_file_is_reported_with_line_and_key(bench):
    bench.study["dataset"]["path"] = "clips\0.csv"
    bench.write()
    assert_refused(run_command(bench, "plan"), "bench.yaml", "dataset.path", "NUL byte")


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "missing/clips.csv"),
        ("try", "missing/dog.wav", "--study", "{study}", "--classifier", "probe"),
        ("run", "missing/study.yaml"),
        ("leaderboard", "--data", "missing/data"),
        ("sql", "SELECT 1", "--data", "missing/data"),
        ("prune", "--data", "missing/data"),
        ("export", "bench", "--data", "missing/data"),
    ],
)
def test_a_missing_folder_is_reported(bench, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = vlm_audio(*(word.replace("{study}", str(bench.write())) for word in arguments))
    assert result.code in (0, 1) or assert_refused(result) is None
    assert "Traceback" not in result.err + result.out


def test_a_warning_of_a_library_has_no_control_codes(monkeypatch):
    handler = logging.StreamHandler(stream := io.StringIO())
    monkeypatch.setattr(logging, "lastResort", handler)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    vlm_audio("leaderboard", data=Path("none"))
    logging.getLogger("a.library").warning("\x1b[31m [/INST]")
    assert stream.getvalue() == "␛[31m [/INST]\n"
