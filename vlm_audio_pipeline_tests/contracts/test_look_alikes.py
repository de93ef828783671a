import unicodedata

import pytest

from vlm_audio_pipeline.contracts.look_alikes import find_look_alikes, look_alike_key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Dog", "dog"),
        ("STRASSE", "stra\xdfe"),
        (unicodedata.normalize("NFC", "caf\xe9"), unicodedata.normalize("NFD", "caf\xe9")),
        ("sea waves", "sea\xa0waves"),
        ("sea waves", " sea\u2009 waves\u3000"),
        ("dog", "d\u200bo\u200dg\ufeff"),
        ("dog", "dog\u2060"),
        ("dog", "do\u034fg"),
        ("heart", "heart\ufe0f"),
        ("dog", "\u202adog\u202c"),  # marks of the writing direction
        ("dog", "dog\x07"),
        ("dog", "d\u043eg"),  # a Cyrillic letter
        ("Alarm", "\u0391larm"),  # a Greek letter
        ("low-pass", "low\u2011pass"),
        ("dog's", "dog\u2019s"),
    ],
)
def test_names_that_look_equal_have_one_key(first, second):
    assert look_alike_key(first) == look_alike_key(second)
    assert find_look_alikes([first, second, "other", first]) == [sorted([first, second])]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dog", "dogs"),
        ("sea waves", "seawaves"),
        ("a", "\xe4"),
        ("1", "l"),
        ("", "x"),
        ("-", "_"),
        ("cop", "\u0441\u043f\u0440"),
    ],
)
def test_names_that_look_different_have_two_keys(first, second):
    assert find_look_alikes([first, second]) == []
