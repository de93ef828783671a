import re

import pytest

from vlm_audio_pipeline.datasets.esc_classes import ESC10, ESC10_FOLDERS, esc10_classes, esc50_classes


def words(text: str) -> str:
    return f" {re.sub(r'[^a-z]+', ' ', text.lower()).strip()} "


def test_the_fifty_classes_are_in_the_order_of_their_targets():
    # Targets as in esc50.csv of github.com/karolpiczak/ESC-50; its readme lists ten classes in each of five groups.
    names = [c.name for c in esc50_classes()]
    assert len(names) == len(set(names)) == 50
    published = {0: "dog", 1: "rooster", 10: "rain", 11: "sea_waves", 12: "crackling_fire", 20: "crying_baby"}
    published |= {21: "sneezing", 38: "clock_tick", 40: "helicopter", 41: "chainsaw", 49: "hand_saw"}
    assert {at: names[at] for at in published} == published


def test_esc10_has_ten_of_the_fifty_classes():
    assert len(ESC10) == len(set(ESC10)) == 10
    assert set(ESC10) == {
        "dog",
        "rooster",
        "rain",
        "sea_waves",
        "crackling_fire",
        "crying_baby",
        "sneezing",
        "clock_tick",
        "helicopter",
        "chainsaw",
    }
    assert [f[:3] for f in ESC10_FOLDERS] == [f"{i:03d}" for i in range(1, 11)]
    assert set(ESC10) <= {c.name for c in esc50_classes()}


def test_each_legacy_folder_name_is_a_phrase_of_its_class():
    # "001 - Dog bark" without its number is one of the ways to say "dog".
    names = {c.name: c for c in esc10_classes()}
    for folder, label in ESC10_FOLDERS.items():
        phrase = words(folder.split(" - ")[1]).strip()
        assert phrase in {names[label].readable_name, *names[label].synonyms}, folder


@pytest.mark.parametrize("c", esc50_classes(), ids=lambda c: c.name)
def test_each_class_has_a_readable_name_synonyms_and_a_description(c):
    assert c.readable_name == c.name.replace("_", " ")
    assert c.synonyms
    assert len(set(c.synonyms)) == len(c.synonyms)
    assert all(re.fullmatch(r"[a-z]+([ -][a-z]+)*", s) for s in c.synonyms)
    assert c.readable_name not in c.synonyms
    assert re.fullmatch(r"[A-Z][^.]{20,}\.", c.description), "one sentence"


def test_no_phrase_of_a_class_contains_a_phrase_of_another_class():
    phrases = {c.name: {words(w) for w in (c.readable_name, *c.synonyms)} for c in esc50_classes()}
    clashes = [
        (a, phrase_of_a, b, phrase_of_b)
        for a, phrases_of_a in phrases.items()
        for phrase_of_a in phrases_of_a
        for b, phrases_of_b in phrases.items()
        if a != b
        for phrase_of_b in phrases_of_b
        if phrase_of_b in phrase_of_a
    ]
    assert clashes == []
