"""Mistakes of new users, on the command line and in study files: each gets one clear message that says what to do.

To add a mistake, add a row. The message is what the user reads after `error:`, without the box of the parser of arguments.
"""

import re

import pytest

from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.cli.program import vlm_audio

STUDIES = "baselines, bench, birdnet, can_vlms_hear, demo, esc10, paper, soundscape, whisper"
NO_STUDY = "a study must be a file, one of the built-in studies or a study that was run in {data}, got "

WRONG_STUDY = ("run bnch", "ui bnch", "leaderboard bnch", "show 1-low-0 --study bnch", "export bnch")
"""One mistake in several commands."""
NOT_RUN = "the study 'demo' was not run in the data folder {data} yet; run `vlm-audio run demo`"

USAGE = {
    # arguments -> what the parser's message names; its words depend on its version
    "frobnicate": "No such command 'frobnicate'",
    "leaderbord": "No such command 'leaderbord'",
    "--json leaderboard": "--json",
    "run": "study",
    "show": "clip",
    "run bench knn": "(knn)",
    "run bench --folds 1": "--folds",
    "run bench --limit 0": "--limit",
    "run bench --fold one": "--fold",
    "plan bench --difference 10": "--difference",
    "prune --days -1": "--days",
    "ui --port 99999": "--port",
    "render bench paper": "--out",
    "try dog.wav --study bench": "--classifier",
    "studies bench": "(bench)",
    "leaderboard bench demo": "(demo)",
    "leaderboard bench --jsn": "--json",
    "plan bench --difference 0": "--difference",
    "run bench --fold 1.5": "--fold",
    "run bench bench": "(bench)",
    "run bench --help-me": "--help",
    "Run bench": "Did you mean 'run'?",
    "help": "No such command 'help'",
    "history bench": "No such command 'history'",
    "--vresion": "--version",
    "-x": "-x",
    "refresh": "study",
    "export": "study",
    "renderings bench": "(bench)",
    "render bench paper --out out --clips 0": "--clips",
    "report bench --limit 0": "--limit",
    "fiftyone bench --port 0": "--port",
    "init clips.csv more.csv": "(more.csv)",
    "sql": "query",
    "schema bench": "(bench)",
    "prune --days abc": "--days",
}
ARGUMENTS = {
    # arguments -> the message
    **dict.fromkeys(WRONG_STUDY, NO_STUDY + f"'bnch'; did you mean 'bench'? options: {STUDIES}"),
    "fetch demoo": NO_STUDY + f"'demoo'; did you mean 'demo'? options: {STUDIES}",
    "fetch bench --everywhere": "--everywhere needs a cluster, but the engine is local; add `--engine ray` or `--engine ray://HOST:PORT`",
    "fetch bench --engine ray": "--engine of fetch names the cluster of --everywhere; add --everywhere, or leave it out",
    "run bench --engine rai": "--engine: must be one of the engines, got 'rai'; did you mean 'ray'? options: local, ray, ",
    "refresh Demo": NO_STUDY + f"'Demo'; did you mean 'demo'? options: {STUDIES}",
    "run bench.yml": NO_STUDY + "'bench.yml'; did you mean 'bench.yaml'? options: bench.yaml",
    "run audio": "audio is a folder, not a study; write a study for the recordings in it with `vlm-audio init audio`",
    "run clips.csv": "clips.csv is a CSV file, not a study; write a study for its recordings with `vlm-audio init clips.csv`",
    "run audio/1-low-0.wav": "audio/1-low-0.wav is a recording, not a study; ask a language model of a study about it, such as "
    "`vlm-audio try audio/1-low-0.wav --study demo --classifier janus`",
    "run bench --fold 6": "--fold must be one of the dataset's folds [1, 2, 3], got 6",
    "run bench --only kn": "--only must match a step of the study, got 'kn'; did you mean 'knn'? options: knn, ",
    "run bench --again clips": "--again must name a step that asks a language model, got 'clips'; options: none",
    "leaderboard demo": NOT_RUN,
    "export demo": NOT_RUN,
    "report demo --single-file page.html": "study 'demo' has no results in {data}; run it first (`vlm-audio run demo`), or choose "
    "another; options: bench",
    "show 1-low-9": "no prediction has the clip '1-low-9'; did you mean '1-low-0'? options: 1-high-0, 1-high-1, 1-low-0, ",
    "show 1-low-0 --classifier nkn": "no prediction has the classifier 'nkn'; did you mean 'knn'? options: knn",
    "sql leaderboard": 'Parser Error: syntax error at or near "leaderboard"',
    "sql 'SELECT acuracy FROM leaderboard'": 'Binder Error: Referenced column "acuracy" not found',
    "sql 'DROP TABLE clips'": "a query must be a SELECT, got a statement of kind DROP: `vlm-audio sql` only reads the data folder; "
    "allow more with --allow-files",
    "sql 'SELECT 1' --format xml": "--format must be table, csv or json, got 'xml'; choose one of them",
    "annotation-sheet bench": "study 'bench' has no images; add `renderings` to its study file and run it in this data folder",
    "fiftyone bench --export out": "study 'bench' has no images; add `renderings` to its study file",
    "init": "init needs a CSV file or a folder, or --from NAME for a built-in study, got neither; give one",
    "init clips.csv --from demo": "init needs a CSV file or a folder, or --from NAME for a built-in study, got both; give one",
    "init clip.csv": "clip.csv does not exist; did you mean 'clips.csv'? options: annotations.csv, audio, clips.csv",
    "init audio": "{folder}/audio contains no folders; move the recordings into one folder per class, or list them in a CSV file",
    "init bench.yaml": "bench.yaml is a study file, not a listing of recordings; run it with `vlm-audio run bench.yaml`",
    "init clips.csv --out bench.yaml": "bench.yaml exists already; remove it, or choose another file with --out",
    "init --from basline": "--from must name a built-in study, got 'basline'; did you mean 'baselines'? options: ",
    "try audio/1-low-0.wav --study bench --classifier knn": "--classifier must be a language model of bench, got 'knn'; it has "
    "none: add one, or use `--study demo`",
    "batch bench": "give one of --write, --read and --forget",
    "render bench papr --out out": "'papr' is neither a rendering of the study nor a preset; did you mean 'paper'? options: paper, ",
    "leaderboard --data clips.csv": "the data folder must be a folder, got the file {folder}/clips.csv; choose another one with --data",
    "leaderboard --data audio": "the data folder {folder}/audio has no results, because no study was run in it; run "
    "`vlm-audio run demo`, or choose another folder with --data",
    "run .": ". is a folder, not a study; write a study for the recordings in it with `vlm-audio init .`",
    "run ''": NO_STUDY + f"''; options: {STUDIES}",
    "run http://example.org/bench.yaml": NO_STUDY + "'http://example.org/bench.yaml'; options: bench.yaml",
    "run bench --only ''": "--only must match a step of the study, got ''; options: ",
    "run bench --only probe/*": "--only must match a step of the study, got 'probe/*'; did you mean 'probe'? options: probe, ",
    "run bench --limit 1": "--limit must be at least 2 (one clip per class in each fold), got 1; raise it",
    "plan bench --limit 1": "--limit must be at least 2 (one clip per class in each fold), got 1; raise it",
    "run bench --engine ray://": "--engine: must have the host and the port of the cluster's head, such as ray://10.0.0.1:6379, got 'ray://'",
    "batch bench --write requests.jsonl": "bench must have a classifier with `backend: openai`",
    "batch bench --forget b1": "--forget must name a batch that was submitted from this data folder and is still open, got 'b1'",
    "show ''": "no prediction has the clip ''; options: 1-high-0, 1-high-1, 1-low-0, ",
    "sql ''": "a query must be a SELECT, got an empty text; write a query such as `SELECT * FROM leaderboard`",
    "sql 'SELECT * FROM predicions'": "Catalog Error: Table with name predicions does not exist",
    "sql 'INSERT INTO clips VALUES (1)'": "a query must be a SELECT, got a statement of kind INSERT",
    "sql 'SELECT sum(label) FROM clips'": "Binder Error: No function matches the given name and argument types 'sum(VARCHAR)'",
    "export bench --format xml": "--format must be a known format, got 'xml'; options: huggingface, inspect, lmms-eval, tables",
    "report bench bench": "a comparison needs two or more different results, got bench, bench; earlier results of a study are NAME@DATE",
    "report bench bench@yesterday": "the time in 'bench@yesterday' must be a date such as 2026-11-20",
    "report bench bench@1999-01-01": "study 'bench' has no results from 1999-01-01 or before; it has none at all; run it",
    "report bench --single-file audio": "a single-file report needs a file name, but {folder}/audio is a folder; add a file name",
    "report bench --single-file clips.csv": "a report's file must be new or an earlier report, but {folder}/clips.csv is another file",
    "export bench --out audio": "--out must name a new or empty folder, or an earlier export, but audio has other content; choose another",
    "export bench --out clips.csv": "--out must name a new or empty folder, or an earlier export, but clips.csv has other content; choose",
    "annotation-sheet bench --fold 9": "study 'bench' has no images",
    "try audio --study demo --classifier janus": "audio is a folder; give one recording",
    "try audio/1-low-0.wav --study demo --classifier jnaus": "--classifier must be a language model of demo, got 'jnaus'; did you mean "
    "'janus'? options: janus, janus_one_shot",
    "init audio/1-low-0.wav": "audio/1-low-0.wav is a recording, not a listing; give its folder, or a CSV file with the path and the label",
    "init clips.csv --out audio": "audio exists already; remove it, or choose another file with --out",
    "renderings --out audio": "--out must be a file, got the folder audio; use for example audio/presets.png",
}

STUDY = """\
name: bench
dataset:
  kind: csv
  path: clips.csv
  columns: {id: id}
renderings:
  small: {preset: plain, size: 64}
encoders:
  bands: {kind: scripted, dimensions: 4}
  pixels: {kind: pixels, rendering: small}
classifiers:
  probe: {kind: probe, encoder: bands}
  knn: {kind: knn, encoder: bands, k: 3}
  panel: {kind: annotations, path: annotations.csv}
  janus: {kind: language_model, model: demo-janus, rendering: small}
contrasts:
  - {classifier: probe, against: [chance, knn]}
"""
EDITS = [
    # text of the study, instead of it, line and message
    ("  kind: csv", "\tkind: csv", ":3: this is not valid YAML: while scanning for the next token found character '\\t' that cannot"
     " start any token at column 1; indent with spaces, not with tabs"),
    ("  kind: csv", "  kind csv", ":4: this is not valid YAML: mapping values are not allowed here at column 7; check the colons and"
     " the indentation of this line and the one before"),
    ("probe, encoder: bands}", "probe, encoder: bands", ":13: this is not valid YAML: while parsing a flow mapping expected ',' or '}', "
     "but got ':' at column 6; close the bracket, or put a comma between the values"),
    (STUDY, "", ": must be a mapping with the keys name, description, owner, task, dataset, renderings, encoders, classifiers, perturb, contrasts, pooling, "
     "analyses, projection, budget, rerun; `vlm-audio init` writes a first study"),
    ("name: bench", "name: my bench", ":1: name: must be lower-case letters, digits and single _, starting with a letter, got 'my bench'"),
    ("name: bench", "seed: 3", ":1: seed: unknown key; options: dataset, analyses, "),
    ("contrasts:", "contrast:", ":16: contrast: unknown key; did you mean 'contrasts'? options: "),
    ("kind: csv\n", "kind: cvs\n", ":3: dataset.kind: unknown dataset kind 'cvs'; did you mean 'csv'? options: annotated_recordings, csv, esc10, esc50, folder, "),
    (STUDY[12:78], "dataset: esc10\n", ":2: dataset: must be a mapping with the key `kind`, got 'esc10'; write {kind: esc10}"),
    ("path: clips.csv", "path: clip.csv", ":4: dataset.path: {folder}/clip.csv does not exist; correct the path; did you mean "
     "'clips.csv'? options: annotations.csv, audio, clips.csv"),
    ("path: clips.csv", "path: lists/clips.csv", ":4: dataset.path: {folder}/lists/clips.csv does not exist, because {folder} has no "
     "'lists'; correct the path; options: annotations.csv, audio, clips.csv"),
    ("columns: {id: id}", "audio_dir: wavs", ":5: dataset.audio_dir: {folder}/wavs does not exist; correct the path; options: "),
    ("columns: {id: id}", "on_bad_clip: ignore", ":5: dataset.on_bad_clip: must be one of the options, got 'ignore'; options: skip, stop"),
    ("columns: {id: id}", "n_folds: 1", ":5: dataset.n_folds: must be greater than or equal to 2, got 1"),
    ("k: 3", "n_neighbors: 3", ":13: classifiers.knn.n_neighbors: unknown key; options: controls, encoder, folds, k, margin, metric, "),
    ("k: 3", "k: three", ":13: classifiers.knn.k: must be a valid integer, unable to parse string as an integer, got 'three'"),
    ("k: 3", "k: 0", ":13: classifiers.knn.k: must be greater than or equal to 1, got 0"),
    ("kind: knn", "kind: k_nn", ":13: classifiers.knn.kind: unknown classifier kind 'k_nn'; did you mean 'knn'? options: "),
    ("  knn: {", "  probe: {", ":13: classifiers.probe occurs twice, first in line 12; remove one of them"),
    ("panel: {kind", "Panel: {kind", ":14: classifiers.Panel: names must be lower-case letters, digits and single _, starting with a letter"),
    ("probe, encoder: bands", "probe", ":12: classifiers.probe.encoder: is required"),
    ("probe, encoder: bands", "probe, encoder: band", ":12: classifiers.probe.encoder: must name one of the encoders, got 'band'; did you "
     "mean 'bands'? options: bands, pixels"),
    ("probe, encoder: bands", "probe, encoder: bands, controls: [blank]", ":12: classifiers.probe.controls: need an encoder of images, got "
     "['blank'] with encoder 'bands' of kind scripted, which takes audio; remove `controls`"),
    ("probe, encoder: bands", "zero_shot, encoder: bands", ":12: classifiers.probe.encoder: must have a text encoder, got 'bands'"),
    ("kind: pixels, rendering: small", "kind: pixels", ":10: encoders.pixels.rendering: is required"),
    ("preset: plain", "preset: plane", ":7: renderings.small: unknown preset 'plane'; did you mean 'plain'? options: plain, paper, "),
    ("size: 64", "colormap: viridiss", ":7: renderings.small.colormap: colormap must be one of matplotlib's, got 'viridiss'; did you mean "
     "'viridis'? options: viridis, viridis_r, "),
    ("demo-janus, rendering: small", "demo-janus", ":15: classifiers.janus: rendering is required for `input: image`, got none; name one of "
     "the study's renderings"),
    ("rendering: small}\ncont", "rendering: small, controls: [blnk]}\ncont", ":15: classifiers.janus.controls.0: must be one of the options, "
     "got 'blnk'; did you mean 'blank'? options: blank, no_image, other_clip, time_shuffled"),
    ("rendering: small}\ncont", "rendering: small, controls: blank}\ncont", ":15: classifiers.janus.controls: must be a list, got 'blank'; "
     "write [blank]"),
    ("rendering: small}\ncont", "rendering: small, prompt: plian}\ncont", ":15: classifiers.janus.prompt: a prompt must be the name of a "
     "prompt or a text, got 'plian'; did you mean 'plain'?"),
    ("model: demo-janus", "backend: opnai, model: gpt-4o", ":15: classifiers.janus: unknown language model backend kind 'opnai'; did you mean"
     " 'openai'?"),
    ("model: demo-janus", "backend: openai, model: gpt-4o, endpoint: {key: sk-abc}", ":15: classifiers.janus.endpoint.key: must be the NAME of "
     "an environment variable (capitals, digits, underscores); got something else, which is not shown"),
    ("classifier: probe", "classifier: prob", ":17: contrasts.0.classifier: must name classifiers of the study, got 'prob'; did you mean "
     "'probe'? options: chance, "),
    ("[chance, knn]", "[chance, nn]", ":17: contrasts.0.against: must name classifiers of the study, got 'nn'; did you mean 'knn'? options: "),
    ("[chance, knn]", "[janus@blank]", ":16: contrasts.0: 'janus@blank' must use a control of its classifier; add it to "
     "`janus: {controls: ...}`"),
    ("[chance, knn]}", "[knn], folds: without_tuning}", ":17: contrasts.0.folds: must be all if the dataset has no tuning_folds, got "
     "without_tuning; add tuning_folds"),
    ("name: bench", "budget: 20", ":1: budget: must be keys and values, such as {usd: ...}, got 20"),
    ("name: bench", "rerun: {schedule: daily}", ":1: rerun.schedule: must be a cron line of five fields"),
    ("name: bench", "analyses: [variances]", ":1: analyses.0: must be an analysis, got 'variances'; did you mean 'variance_components'? "),
    ("name: bench", "owner: me", ":1: owner: must be an e-mail address or team:name, got 'me'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def finished_bench(tmp_path_factory):
    """A study that was run, without annotators and images."""
    bench = Bench(tmp_path_factory.mktemp("mistakes") / "bench")
    del bench.study["classifiers"]["panel"]
    bench.run(only=("knn", "leaderboard"))
    return bench


@pytest.fixture
def folder(finished_bench, monkeypatch):
    """The folder of the study, as the working directory, with its data folder as the default."""
    monkeypatch.chdir(finished_bench.folder)
    monkeypatch.setenv("VLM_AUDIO_DATA", str(finished_bench.data_folder.root))
    monkeypatch.delenv("ESC10_DIR", raising=False)
    return finished_bench.folder


def message_of(result):
    """Return the message without `error:`, the usage line and the box of the parser of arguments, in one line."""
    lines = [line for line in result.err.splitlines() if not line.startswith(("Usage:", "╭", "╰"))]
    return " ".join(re.sub(r"[│\s]+", " ", " ".join(lines)).split()).removeprefix("error: ")


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_names_the_argument_and_the_help(folder, arguments):
    result = vlm_audio(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert re.search(r"Try 'vlm-audio ([a-z]+ )?-h' for help", result.err)
    assert USAGE[arguments] in message_of(result)
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_mistake_on_the_command_line_is_explained(folder, arguments):
    words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", arguments)]
    files = sorted(folder.iterdir())
    result = vlm_audio(*words)
    expected = ARGUMENTS[arguments].format(folder=folder, data=folder / "data")
    assert (result.code, result.out) == (2, "")
    assert message_of(result).startswith(expected)
    assert "Traceback" not in result.err
    assert sorted(folder.iterdir()) == files, "a refused command writes nothing"


@pytest.mark.parametrize(("text", "replacement", "message"), EDITS, ids=[edit[1].strip()[:50] for edit in EDITS])
def test_a_mistake_in_a_study_file_is_explained(tmp_path, text, replacement, message):
    bench = Bench(tmp_path)
    bench.write()
    assert STUDY.count(text) == 1
    (tmp_path / "bench.yaml").write_text(STUDY.replace(text, replacement))
    result = vlm_audio("plan", tmp_path / "bench.yaml", data=tmp_path / "data")
    assert (result.code, result.out) == (2, "")
    expected = message.replace("{folder}", str(tmp_path))
    first = result.err.splitlines()[0]
    assert first.startswith(f"error: {tmp_path / 'bench.yaml'}{expected}")
    assert not (tmp_path / "data").exists()


def test_a_missing_file_of_one_classifier_stops_only_this_classifier(tmp_path):
    bench = Bench(tmp_path)
    bench.write()
    (tmp_path / "bench.yaml").write_text(STUDY.replace("path: annotations.csv", "path: anotations.csv"))
    result = vlm_audio("plan", tmp_path / "bench.yaml", data=tmp_path / "data")
    assert result.code == 0
    assert result.err.startswith(
        f"{tmp_path}/bench.yaml:14: classifiers.panel.path: {tmp_path}/anotations.csv does not exist; correct the path; did you "
        "mean 'annotations.csv'?"
    )
    assert "probes/probe" in result.out


def test_the_study_file_without_an_edit_is_correct(tmp_path):
    Bench(tmp_path).write()
    (tmp_path / "bench.yaml").write_text(STUDY)
    result = vlm_audio("plan", tmp_path / "bench.yaml", data=tmp_path / "data")
    assert (result.code, result.err) == (0, "")
