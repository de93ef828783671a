"""The classifier a study names: what it says it will cost before anything is asked."""

from io import BytesIO

import pytest
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Sampling
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder
from vlm_audio_pipeline.datasets.esc_classes import ESC10

LISTED_OFTEN = OwnPrompt(
    text="Which of {classes}? Say one of {classes}.",
    system="You tell apart {classes}.",
    examples="Each is one of {classes}.",
    lead="One of {classes}:",
)


def blank_image() -> ImagePart:
    file = BytesIO()
    Image.new("RGB", (640, 480)).save(file, "PNG")
    return ImagePart(file.getvalue(), "image/png", "0" * 64)


@pytest.mark.parametrize("shots", [0, 1, 3])
@pytest.mark.parametrize("prompt", [*PROMPTS, LISTED_OFTEN], ids=lambda p: p if isinstance(p, str) else "listed often")
def test_a_plan_is_at_most_what_a_request_can_take_and_not_much_more(prompt, shots):
    options = {"encoder": "bands"} if shots else {}
    model = EndpointLanguageModel(model="gpt-4o-2024-11-20", rendering="r", prompt=prompt, shots=shots, **options)
    form = QuestionBuilder(
        prompt=resolve_prompt(prompt),
        input="image",
        names={c: c.replace("_", " ") for c in ESC10},
        scorings=frozenset({"generation"}),
        controls=(),
        trials=model.trials,
        sampling=Sampling(max_tokens=model.max_tokens),
        seed=0,
        repeats_differ=False,
    )
    examples = [
        {"trial": t.trial, "query": "", "position": n, "clip": f"{c}-{n}", "label": c, "example_label": c}
        for t in model.trials
        for n, c in enumerate(ESC10 * shots)
    ]
    image = blank_image()
    requests = [q.request for q in form.build(["a"], examples, lambda control, clip: image)]
    planned = model.cost(1, (640, 480), len(ESC10))
    assert planned.requests == len(requests)
    reckoned = [cost_bound(request, model.model, model.endpoint) for request in requests]
    tokens, usd = sum(t for t, _ in reckoned), sum(u for _, u in reckoned)
    assert tokens <= planned.tokens <= 1.5 * tokens + 1500
    assert usd <= planned.usd
