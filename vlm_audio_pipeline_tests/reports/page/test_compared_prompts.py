"""The words that differ between the prompts of two studies."""

from types import SimpleNamespace

from vlm_audio_pipeline.classifiers.language_models.stored_requests import Example, Query, Turn
from vlm_audio_pipeline.reports.page.compared_prompts import MarkedTurn, compare_turns, not_compared_prompts


def marked(turn: MarkedTurn) -> list[str]:
    return [text for text, is_marked in turn.segments if is_marked]


def turns(side) -> list[MarkedTurn]:
    return [turn for _, group in side for turn in group]


def test_only_the_words_that_differ_are_marked():
    first = (Turn("user", ("Which sound is this? Choose: dog, rain.", Query())),)
    second = (Turn("user", ("Which class is this? Choose: dog, rain.", Query())),)
    prompt = compare_turns("model", [(first, ""), (second, "")])
    assert not prompt.is_equal
    assert [marked(turn) for side in prompt.sides for turn in turns(side)] == [["sound"], ["class"]]
    assert "".join(text for text, _ in turns(prompt.sides[0])[0].segments).startswith(
        "Which sound is this? Choose: dog, rain."
    )


def test_turns_of_one_role_are_compared_and_others_are_marked_as_a_whole():
    user = Turn("user", ("Which sound is this?",))
    prompt = compare_turns("model", [((user,), ""), ((Turn("system", ("Listen.",)), user), "")])
    assert [marked(turn) for turn in turns(prompt.sides[1])] == [["Listen."], []]
    assert [differs for differs, _ in prompt.sides[1]] == [True, False]


def test_examples_are_compared_by_their_clips():
    answer = Turn("assistant", ("dog",))
    a, b = (((Turn("user", (Example(clip),)), answer), "") for clip in ("1-dog-0", "1-dog-1"))
    prompt = compare_turns("model", [a, b])
    assert marked(turns(prompt.sides[0])[0]) == ["\n[example: clip 1-dog-0]\n"]
    assert marked(turns(prompt.sides[0])[1]) == []


def test_texts_with_little_in_common_are_marked_as_a_whole():
    prompt = compare_turns(
        "model",
        [((Turn("user", (text,)),), "") for text in ("What is the sound?", "Read the image, then name its class.")],
    )
    assert [len(marked(turns(side)[0])) for side in prompt.sides] == [1, 1]


def test_equal_and_missing_prompts():
    user = ((Turn("user", ("Which sound is this?",)),), "")
    assert compare_turns("model", [user, user]).is_equal
    missing = compare_turns("model", [user, ((), "no result")])
    assert not missing.is_equal and missing.sides[1] is None and missing.reasons[1] == "no result"
    assert marked(turns(missing.sides[0])[0]) == []


def test_prompts_that_only_one_side_has_are_not_compared():
    user = ((Turn("user", ("Which sound is this?",)),), "")
    missing = ((), "the prompts of earlier results are not stored")
    prompts = [compare_turns(name, [user, missing]) for name in ("a", "b")]
    sides = [SimpleNamespace(name=name) for name in ("study", "study@2026-11-20")]
    [group] = not_compared_prompts([*prompts, compare_turns("c", [user, user])], sides)
    assert group.names == ["a", "b"]
    assert group.reason == "study@2026-11-20: the prompts of earlier results are not stored"
