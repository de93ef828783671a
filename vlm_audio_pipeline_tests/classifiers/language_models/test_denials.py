"""Denials and concessions in a response: which class is meant."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.datasets.esc_classes import ESC10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("❌ dog", None),
        ("The sound is rain-free.", None),
        ("Suppose it is rain.", None),
        ("geen dog", None),
        ("Final answer: rooster (although rain was considered)", "rooster"),
    ],
)
def test_a_denied_or_supposed_class_is_no_label_and_a_concession_is_no_second_one(text, expected):
    assert parse_response(text, ESC10).label == expected


DENIALS = """
not a dog; anything but a dog; everything but dog; all but dog; no sign of a dog; without dog; devoid of dog; free from dog; no hint of a dog
dog-free; dog - no; dog: 0 %; Zero evidence for dog; Unable to confirm dog; aint a dog; the dog is missing; dog is nowhere to be heard
I refuse to say dog; incompatible with dog; dog is out; dog was discounted; nobody would hear a dog
¬dog; !dog; dog 👎; 👎 dog; ❌ dog; ✖ dog; [ ] dog; ☐ dog; ~~dog~~; 🚫dog
Let's say it's a dog; hypothetically, a dog; pretend it is dog; in case of dog; suppose it is dog; imagine a dog
kein dog; ohne dog; dog ausgeschlossen; geen dog; zonder dog; aucun dog; sans dog; jamais un dog; hors de question: dog
ningún dog; sin dog; nunca dog; nessun dog; senza dog; nenhum dog; sem dog; ingen dog; utan dog; ikke dog; ei ole dog
to nie jest dog; bez dog; není dog; nem dog; nu este dog; όχι dog; δεν είναι dog; нет dog; без dog; это не dog
不是dog; 没有dog; dogではない; dogじゃない; dog이 아닙니다; dog 없음; bukan dog; tidak dog; dog değil; dog yok; không phải dog
ไม่ใช่ dog; ليس dog; لا dog; לא dog; यह dog नहीं है
"""
CONCESSIONS = """
although rain was considered; though rain was possible; even though it resembles rain; despite some rain; in spite of the rain
after considering rain; having considered rain; regardless of the rain; aunque rain era posible; bien que rain soit possible
(although rain was considered); (rain was also considered); (rain is less likely); (but rain is also possible); (second choice: rain)
(runner-up: rain); (initially I thought rain); (notwithstanding rain in the background); (albeit rain can be heard); (rain was ruled out)
(rain excluded); (alternatives considered: rain, dog); (other candidates: rain); (versus rain); (obwohl rain möglich wäre)
(aunque rain era posible); (hoewel rain mogelijk is); (虽然也考虑了rain)
"""


def _phrases(text):
    return [phrase.strip() for line in text.strip().splitlines() for phrase in line.split("; ")]


@pytest.mark.parametrize("text", _phrases(DENIALS))
def test_a_denial_in_any_language_or_sign_is_no_label(text):
    assert parse_response(text, ESC10).label is None
    assert parse_response(text + ".", ESC10).label is None


@pytest.mark.parametrize("remark", _phrases(CONCESSIONS))
def test_a_concession_after_an_explicit_answer_does_not_lose_it(remark):
    comma = " " if remark.startswith("(") else ", "
    assert parse_response(f"Final answer: rooster{comma}{remark}", ESC10).label == "rooster"
    assert parse_response(f"Answer: rooster{comma}{remark}", ESC10).label == "rooster"


@pytest.mark.parametrize(
    "text",
    ["Answer: rooster (actually rain)", "Answer: rooster (or rain)", "Answer: rooster, although rain is more likely"],
)
def test_a_revised_answer_is_no_concession(text):
    assert parse_response(text, ESC10).label is None


@pytest.mark.parametrize(
    ("text", "classes"),
    [("0", ["0", "1"]), ("Answer: 0", ["0", "1"]), ("Label: negative", ["negative", "positive"]), ("¬", ["¬", "0"])],
)
def test_a_class_with_the_name_of_a_denial_is_a_label(text, classes):
    assert parse_response(text, classes).label == classes[0]
