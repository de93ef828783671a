import re

import pytest

from vlm_audio_pipeline.datasets.esc_classes import ESC10, ESC10_FOLDERS, esc10_classes, esc50_classes


def words(text: str) -> str:
    return f" {re.sub(r'[^a-z]+', ' ', text.lower()).strip()} "


def test_fifty_classes_in_the_order_of_their_targets():
    # Targets as in esc50.csv of github.com/karolpiczak/ESC-50; its readme lists ten classes in each of five groups.
    names = [c.name for c in esc50_classes()]
    assert len(names) == len(set(names)) == 50
    published = {0: "dog", 1: "rooster", 10: "rain", 11: "sea_waves", 12: "crackling_fire", 20: "crying_baby"}
    published |= {21: "sneezing", 38: "clock_tick", 40: "helicopter", 41: "chainsaw", 49: "hand_saw"}
    assert {at: names[at] for at in published} == published


def test_esc10_is_ten_of_them():
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


def test_a_folder_means_the_class_it_is_named_after():
    # "001 - Dog bark" without its number is one of the ways to say "dog".
    names = {c.name: c for c in esc10_classes()}
    for folder, label in ESC10_FOLDERS.items():
        phrase = words(folder.split(" - ")[1]).strip()
        assert phrase in {names[label].readable, *names[label].synonyms}, folder


@pytest.mark.parametrize("c", esc50_classes(), ids=lambda c: c.name)
def test_each_class_is_well_formed(c):
    assert c.readable == c.name.replace("_", " ")
    assert c.synonyms
    assert len(set(c.synonyms)) == len(c.synonyms)
    assert all(re.fullmatch(r"[a-z]+([ -][a-z]+)*", s) for s in c.synonyms)
    assert c.readable not in c.synonyms
    assert re.fullmatch(r"[A-Z][^.]{20,}\.", c.description), "one sentence"


def test_no_phrase_for_a_class_contains_one_for_another_class():
    ways = {c.name: {words(w) for w in (c.readable, *c.synonyms)} for c in esc50_classes()}
    clashes = [
        (a, way, b, other)
        for a, some in ways.items()
        for way in some
        for b, others in ways.items()
        if a != b
        for other in others
        if other in way
    ]
    assert clashes == []
