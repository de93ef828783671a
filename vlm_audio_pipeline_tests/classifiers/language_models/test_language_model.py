"""The classifier a study names: what it says it will cost before anything is asked."""

from io import BytesIO

import pytest
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.endpoint.reckoning import estimate
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Picture, Sampling
from vlm_audio_pipeline.classifiers.language_models.prompts import PROMPTS, OwnPrompt, prompt_of
from vlm_audio_pipeline.classifiers.language_models.questions import Form
from vlm_audio_pipeline.datasets.esc_classes import ESC10

LISTED_OFTEN = OwnPrompt(
    text="Which of {classes}? Say one of {classes}.",
    system="You tell apart {classes}.",
    examples="Each is one of {classes}.",
    lead="One of {classes}:",
)


def drawn() -> Picture:
    file = BytesIO()
    Image.new("RGB", (640, 480)).save(file, "PNG")
    return Picture(file.getvalue(), "image/png", "0" * 64)


@pytest.mark.parametrize("shots", [0, 1, 3])
@pytest.mark.parametrize("prompt", [*PROMPTS, LISTED_OFTEN], ids=lambda p: p if isinstance(p, str) else "listed often")
def test_a_plan_is_at_most_what_a_request_can_take_and_not_much_more(prompt, shots):
    told = {"encoder": "bands"} if shots else {}
    model = LanguageModel(
        backend="openai", model="gpt-4o-2024-11-20", rendering="r", prompt=prompt, shots=shots, **told
    )
    form = Form(
        prompt=prompt_of(prompt),
        shown="picture",
        names={c: c.replace("_", " ") for c in ESC10},
        wants=frozenset({"generation"}),
        controls=(),
        trials=model.trials,
        sampling=Sampling(max_tokens=model.max_tokens),
        seed=0,
        repeats_differ=False,
    )
    examples = [
        {"trial": t.trial, "query": "", "position": n, "clip": f"{c}-{n}", "label": c, "shown_label": c}
        for t in model.trials
        for n, c in enumerate(ESC10 * shots)
    ]
    picture = drawn()
    asked = [q.request for q in form.questions(["a"], examples, lambda control, clip: picture)]
    planned = model.cost(1, (640, 480), len(ESC10))
    assert planned.requests == len(asked)
    reckoned = [estimate(request, model.model, model.endpoint) for request in asked]
    tokens, usd = sum(t for t, _ in reckoned), sum(u for _, u in reckoned)
    assert tokens <= planned.tokens <= 1.5 * tokens + 1500
    assert usd <= planned.usd
