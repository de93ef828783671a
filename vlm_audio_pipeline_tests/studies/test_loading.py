import re
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.studies.loading import built_in_studies, load_study, parse_study

GOOD = """\
name: sound
dataset: {kind: synthetic, clips: 20}
encoders:
  classical: {kind: features}
  scripted: {kind: scripted}
classifiers:
  probe:
    kind: probe
    encoder: classical
"""
FILE = Path("/somewhere/sound.yaml")


def refused(text: str) -> list[str]:
    with pytest.raises(BadStudy) as caught:
        parse_study(text, FILE)
    return str(caught.value).split("\n")


def test_a_valid_study_is_loaded():
    study = parse_study(GOOD, FILE)
    assert (study.name, study.dataset.kind, study.dataset.clips) == ("sound", "synthetic", 20)
    assert list(study.encoders) == ["classical", "scripted"]
    assert study.classifiers["probe"].encoder == "classical"
    assert study.path == FILE


def test_the_default_name_is_the_file_name():
    assert parse_study(GOOD.removeprefix("name: sound\n"), FILE).name == "sound"


@pytest.mark.parametrize(
    ("valid", "wrong", "line", "message"),
    [
        (
            "encoders:",
            "encoder:",
            3,
            "encoder: unknown key; did you mean 'encoders'? options: ",
        ),
        (
            "kind: synthetic",
            "kind: synthetik",
            2,
            "dataset.kind: unknown dataset kind 'synthetik'; did you mean 'synthetic'? options: annotated_recordings, csv, esc10, ",
        ),
        (
            "kind: probe",
            "kind: prob",
            8,
            "classifiers.probe.kind: unknown classifier kind 'prob'; did you mean 'probe'? options: annotations, knn, language_model, probe",
        ),
        (
            "clips: 20",
            "clip: 20",
            2,
            "dataset.clip: unknown key; did you mean 'clips'? options: ",
        ),
        ("clips: 20", "clips: many", 2, "dataset.clips: must be a valid integer, "),
        ("clips: 20", "clips: 3", 2, "dataset.clips: must be greater than or equal to 4, got 3"),
        ("    encoder: classical\n", "", 7, "classifiers.probe.encoder: is required"),
        (
            "encoder: classical",
            "encoder: clasical",
            9,
            "classifiers.probe.encoder: must name one of the encoders, got 'clasical'; did you mean 'classical'? "
            "options: classical, scripted",
        ),
        ("dataset: {kind: synthetic, clips: 20}", "dataset: {clips: 20}", 2, "dataset: must have the key `kind`; "),
        (
            "dataset: {kind: synthetic, clips: 20}",
            "dataset: esc10",
            2,
            "dataset: must be a mapping with the key `kind`",
        ),
        (
            "dataset: {kind: synthetic, clips: 20}",
            "owner: a@b.org",
            1,
            "dataset: is required; its `kind` is one of ",
        ),
        (
            "name: sound",
            "name: Sound",
            1,
            "name: must be lower-case letters, digits and single _, starting with a letter",
        ),
        (
            "name: sound",
            'name: "sound\\n"',
            1,
            "name: must be lower-case letters, digits and single _, starting with a letter",
        ),
        (
            "name: sound",
            "name: 12",
            1,
            "name: must be lower-case letters, digits and single _, starting with a letter, got 12",
        ),
        ("name: sound", "description: [a]", 1, "description: must be text, got ['a']"),
        ("name: sound", "owner: me", 1, "owner: must be an e-mail address or team:name, got 'me'"),
        (
            "  scripted: {",
            "  Scripted-2: {",
            5,
            "encoders.Scripted-2: names must be lower-case letters, digits and single _",
        ),
        ("  scripted: {", "  2: {", 5, "encoders.2: names must be lower-case letters, digits and single _"),
        ("{kind: features}", "features", 4, "encoders.classical: must be a mapping with the key `kind` (or `like`)"),
        (
            "{kind: scripted}",
            "{like: clasical}",
            5,
            "encoders.scripted.like: must name another entry, got 'clasical'; did you mean 'classical'? "
            "options: classical",
        ),
        ("{kind: scripted}", "{like: [classical]}", 5, "encoders.scripted.like: must name another entry, got "),
        (
            "{kind: scripted}",
            "{like: scripted}",
            5,
            "encoders.scripted.like: must not form a circle, got scripted -> scripted",
        ),
        (
            "{kind: features}",
            "{kind: features, features: [mfcc, logmell]}",
            4,
            "encoders.classical.features.1: must be one of the options, got 'logmell'; did you mean 'logmel'? "
            "options: delta, logmel, mfcc, zero_crossing_rate",
        ),
        (
            "{kind: features}",
            "{kind: features, n_mfcc: 99}",
            4,
            "encoders.classical: n_mfcc must be at most n_mels = 64, got 99; lower it",
        ),
        ("kind: probe", "kind: probe\n    folds: []", 9, "classifiers.probe.folds: must name at least one, got []"),
        ("kind: probe", "kind: probe\n    sample: {clip: 3}", 9, "classifiers.probe.sample.clip: unknown key; "),
        ("kind: probe", "kind: probe\n    sample: {seed: 3}", 9, "classifiers.probe.sample.clips: is required"),
    ],
)
def test_each_mistake_is_reported_with_its_line(valid, wrong, line, message):
    assert GOOD.count(valid) == 1
    lines = refused(GOOD.replace(valid, wrong))
    assert any(line_text.startswith(f"{FILE}:{line}: {message}") for line_text in lines), lines


def test_all_mistakes_are_reported_in_the_order_of_the_file():
    wrong = GOOD.replace("clips: 20", "clips: 3").replace("kind: features", "kind: feature").replace("sound", "Sound")
    lines = refused(wrong.replace("encoder: classical", "encoders: classical"))
    assert [re.match(rf"{FILE}:(\d+): ([a-z.]+):", line_text).groups() for line_text in lines] == [
        ("1", "name"),
        ("2", "dataset.clips"),
        ("4", "encoders.classical.kind"),
        ("7", "classifiers.probe.encoder"),
        ("9", "classifiers.probe.encoders"),
    ]


def test_a_wrong_encoder_is_not_also_reported_as_missing():
    lines = refused(GOOD.replace("kind: features", "kind: feature"))
    assert len(lines) == 1
    assert lines[0].startswith(
        f"{FILE}:4: encoders.classical.kind: unknown encoder kind 'feature'; did you mean 'features'?"
    )


def test_a_cycle_of_like_is_refused():
    lines = refused(GOOD + "  a: {like: b}\n  b: {like: c}\n  c: {like: a}\n")
    assert lines == [
        f"{FILE}:10: classifiers.a.like: must not form a circle, got a -> b -> c -> a",
        f"{FILE}:11: classifiers.b.like: must not form a circle, got b -> c -> a -> b",
        f"{FILE}:12: classifiers.c.like: must not form a circle, got c -> a -> b -> c",
    ]


def test_duplicate_keys_are_refused():
    assert refused(GOOD + "    encoder: scripted\n") == [
        f"{FILE}:10: classifiers.probe.encoder occurs twice, first in line 9; remove one of them"
    ]
    assert refused(GOOD + "  probe: {kind: probe}\n") == [
        f"{FILE}:10: classifiers.probe occurs twice, first in line 7; remove one of them"
    ]


def test_names_that_are_equal_after_expansion_are_refused():
    lines = refused(
        GOOD + "  knn: {kind: knn, encoder: classical, k: [1, 5]}\n  knn_5: {kind: knn, encoder: scripted}\n"
    )
    assert lines == [f"{FILE}:11: classifiers.knn_5: gives the name 'knn_5' twice; rename one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping with the keys name, description, owner, task, dataset, "),
        ("# nothing yet\n", "must be a mapping with the keys "),
        ("- a\n- b\n", "must be a mapping with the keys "),
        ("name: 2026-13-45\n", "this is not valid YAML: month must be in 1..12"),
    ],
)
def test_files_that_are_not_studies_are_refused(text, message):
    assert refused(text)[0].startswith(f"{FILE}: {message}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!python/name:os.system x", "a value must have no tag, got !!python/name:os.system; remove the tag"),
        ("!!timestamp ", "a value must have no tag, got !!timestamp; remove the tag"),
        ("!!int ''", "a value must have no tag, got !!int; remove the tag"),
        (
            r'"a\udc15"',
            r"'a\udc15' contains half of a surrogate pair, which is no character; correct the text",
        ),
    ],
)
def test_values_that_cannot_be_converted_are_refused(value, message):
    assert refused(f"name: s\ndescription: {value}\n") == [f"{FILE}:2: {message}"]


def test_the_tag_of_a_text_is_allowed():
    assert all("tag" not in line for line in refused("name: !!str 5\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: [sound\n",
            "2: this is not valid YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'",
        ),
        ("a: b: c\n", "1: this is not valid YAML: mapping values are not allowed here at column 5; check the colons"),
        (
            "name: !other x\n",
            "1: this is not valid YAML: could not determine a constructor for the tag ",
        ),
        (
            "name: sound\ndescription: [\n",
            "3: this is not valid YAML: while parsing a flow node expected the node content",
        ),
    ],
)
def test_errors_of_yaml_have_a_position_and_advice(text, message):
    (line,) = refused(text)
    assert line.startswith(f"{FILE}:{message}")
    assert line.split("; ")[-1].split()[0] in ("close", "check", "remove")


def test_an_alias_to_an_enclosing_value_is_refused():
    assert refused("dataset: &d\n  kind: synthetic\n  more: *d\n") == [
        f"{FILE}:3: dataset.more must not contain itself; replace the alias by its values"
    ]


@pytest.mark.parametrize("section", ["[{kind: features}]", "features", "5"])
def test_a_section_that_is_not_a_mapping_is_refused(section):
    lines = refused(
        f"dataset: {{kind: synthetic}}\nencoders: {section}\nclassifiers: {{p: {{kind: probe, encoder: a}}}}\n"
    )
    assert lines[0].startswith(f"{FILE}:2: encoders: must be a mapping of names to entries, got ")
    assert lines[1] == f"{FILE}:3: classifiers.p.encoder: must name one of the encoders, got 'a'; options: none"


@pytest.mark.parametrize("section", ["", "{}"])
def test_a_study_without_classifiers_is_refused(section):
    assert refused(f"dataset: {{kind: synthetic}}\nclassifiers: {section}\n") == [
        f"{FILE}:2: classifiers: must name at least one classifier"
    ]


def test_a_value_that_is_no_name_of_an_analysis_is_refused_with_its_line():
    text = "dataset: {kind: esc10}\nanalyses: [leakage: 1]\nclassifiers: {panel: {kind: annotations, source: esc10_annotators}}\n"
    (message,) = refused(text)
    assert message.startswith(f"{FILE}:2: analyses.0: must be an analysis, got {{'leakage': 1}}; ")


def test_a_study_without_encoders_is_valid():
    text = "dataset: {kind: esc10}\nencoders:\nclassifiers: {panel: {kind: annotations, source: esc10_annotators}}\n"
    assert parse_study(text, FILE).encoders == {}


def test_a_list_of_values_makes_one_entry_for_each_value():
    text = GOOD + "  knn: {kind: knn, encoder: [classical, scripted], k: [1, 5], folds: [1, 2]}\n"
    settings_by_name = {n: (c.encoder, c.k) for n, c in parse_study(text, FILE).classifiers.items() if c.kind == "knn"}
    assert settings_by_name == {
        "knn_classical_1": ("classical", 1),
        "knn_classical_5": ("classical", 5),
        "knn_scripted_1": ("scripted", 1),
        "knn_scripted_5": ("scripted", 5),
    }
    assert parse_study(text, FILE).classifiers["knn_scripted_5"].folds == (1, 2)


def test_like_copies_all_other_values():
    text = GOOD + (
        "  knn: {kind: knn, encoder: classical, k: 3, metric: euclidean}\n"
        "  knn_9: {like: knn, k: 9}\n"
        "  other: {like: knn_9, encoder: scripted}\n"
    )
    other = parse_study(text, FILE).classifiers["other"]
    assert (other.kind, other.encoder, other.k, other.metric) == ("knn", "scripted", 9, "euclidean")


def test_like_of_a_list_is_expanded_too():
    text = GOOD + "  knn: {kind: knn, encoder: classical, k: [1, 5]}\n  flat: {like: knn, metric: euclidean}\n"
    classifiers = parse_study(text, FILE).classifiers
    assert list(classifiers) == ["probe", "knn_1", "knn_5", "flat_1", "flat_5"]
    assert [classifiers[n].metric for n in ("knn_5", "flat_5")] == ["cosine", "euclidean"]


def test_relative_paths_start_at_the_folder_of_the_study(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "studies" / "mine.yaml"
    file.write_text(
        "dataset: {kind: csv, path: ../clips.csv, audio_dir: /audio}\n"
        "classifiers: {panel: {kind: annotations, path: annotations.csv}}\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load_study("../studies/mine.yaml")
    assert study.dataset.path.resolve() == (tmp_path / "clips.csv").resolve()
    assert study.dataset.audio_dir == Path("/audio")
    assert study.classifiers["panel"].path == (tmp_path / "studies" / "annotations.csv").resolve()
    assert study.path == file.resolve()


def test_built_in_studies_load_by_name():
    assert {"demo", "baselines"} <= set(built_in_studies())
    for name, path in built_in_studies().items():
        study = load_study(name)
        assert (study.name, study.path) == (name, path.resolve())
        assert study.description


def test_an_unknown_study_is_refused_with_a_suggestion():
    with pytest.raises(BadStudy) as caught:
        load_study("baseline")
    assert str(caught.value).startswith(
        "a study must be a file or one of the built-in studies, got 'baseline'; did you mean 'baselines'? options: "
    )


def test_a_study_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(BadStudy, match=r"study\.yaml: this is not UTF-8 text \(invalid continuation byte at byte 9\)"):
        load_study(file)
