"""An endpoint that repeats the API key in its responses."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import redact, remove_key
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint import backend, replies

KEY = "sk-test-Zx81Yw72/Vu63Ts54Rq45Po36"


def has_key(text):
    return any(KEY[i : i + 8] in text for i in range(len(KEY) - 7))


@given(st.integers(0, len(KEY) - 8), st.integers(8, len(KEY)), st.text(max_size=20), st.text(max_size=20))
def test_no_part_of_a_key_remains(start, length, before, after):
    assert not has_key(remove_key(before + KEY[start : start + length] + after, KEY))


@given(
    st.recursive(
        st.text() | st.integers() | st.none() | st.booleans(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_a_body_without_the_key_is_unchanged(body):
    assert remove_key(body, KEY) == body


MESSAGE_KEY = "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8t"


@given(
    st.integers(0, len(MESSAGE_KEY) - 8), st.integers(8, len(MESSAGE_KEY)), st.text(max_size=30), st.text(max_size=30)
)
def test_no_part_of_a_key_remains_in_a_message(start, length, before, after):
    cleaned = redact(before + MESSAGE_KEY[start : start + length] + after, MESSAGE_KEY)
    assert not any(MESSAGE_KEY[i : i + 8] in cleaned for i in range(len(MESSAGE_KEY) - 7))


def test_images_are_removed_and_long_texts_are_cut():
    data = base64.b64encode(bytes(range(256))).decode()
    assert redact(f"bad image data:image/png;base64,{data} sent", None) == "bad image … sent"
    assert redact(f"bad {data}", MESSAGE_KEY) == "bad …"
    assert len(redact("word " * 100, MESSAGE_KEY)) == 200
    assert redact("Incorrect API key provided: sk-proj-********Rs8t.", MESSAGE_KEY) == "Incorrect API key provided: …"
    assert redact(f"{MESSAGE_KEY}", "") != ""


FORMS = {
    "percent-encoded": quote(KEY, safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "header in base64": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "user and key in base64": base64.b64encode(f":{KEY}".encode()).decode(),
    "other case": KEY.upper(),
    "on two lines": KEY[:7] + "\n" + KEY[7:14] + " " + KEY[14:],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_in_another_form_is_removed(form):
    assert remove_key(f"a {form} b", KEY).replace("=", "") == "a … b"
    assert not has_key(redact(f"a {form} b", KEY)) and form not in redact(f"a {form} b", KEY)


@pytest.mark.parametrize("key", ["EMPTY", "none", "dog", None])
def test_a_placeholder_for_a_key_removes_no_word(key):
    assert remove_key("EMPTY none dog", key) == "EMPTY none dog"


def test_a_key_of_words_removes_no_answer():
    assert remove_key("helicopter", "my-helicopter-key-2026") == "helicopter"
    assert remove_key("my-helicopter-key-2026", "my-helicopter-key-2026") == "…"
    assert remove_key("sk-1 and sk-12", "sk-1") == "… and sk-12"


def echo(body):
    """A response that contains the key in each of its texts, also in pieces that only its parts together spell."""
    parts = [{"type": "text", "text": "dog "}, {"type": "text", "text": KEY[:6]}, {"type": "text", "text": KEY[6:]}]
    message = {"content": parts, "reasoning_content": f"The key is {KEY}."}
    return {**completion("", body, None, **message), "model": f"m {KEY}", "system_fingerprint": KEY, KEY: KEY}


def test_a_key_in_a_response_is_removed_before_anyone_sees_it(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    refusal = completion(None, {"model": "m"}, None, refusal=f"I refuse, {KEY}")
    odd_end = completion("dog", {"model": "m"}, None)
    odd_end["choices"][0]["finish_reason"] = f"ended by {KEY}"
    plays = {
        "clip 0": (200, echo({"model": "m"})),
        "clip 1": (200, refusal),
        "clip 2": (200, odd_end),
        "clip 3": (200, json.dumps(echo({"model": "m"})).replace("/", "\\/").replace("Z", "\\u005a").encode()),
    }
    with serving(ServerScript(play=lambda question, attempt: plays[question])) as server:
        asking = backend(server, key="TEST_KEY", prices={"input": 0, "output": 0}, accept=["m", f"m {KEY}"])
        received, _ = replies(asking, len(plays))
    assert [reply.outcome for reply in received] == ["answered", "refused", "error", "answered"]
    assert received[0].text == received[3].text == "dog sk-tes…"
    assert received[0].model == "m … …"
    assert not has_key(repr(received))


def test_a_key_as_the_id_of_another_model_is_removed(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    body = {**completion("dog", {"model": "m"}, None), "model": f"gpt-4o-{KEY}"}
    with serving(ServerScript(play=lambda question, attempt: (200, body))) as server:
        asking = backend(server, key="TEST_KEY", prices={"input": 0, "output": 0})
        asking.model = "claude-sonnet"
        with pytest.raises(Exception, match="must answer itself") as error:
            replies(asking, 1)
    assert not has_key(repr(error.value))
