"""The cost estimate of a language model before any request."""

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

CLASSES_IN_EVERY_TEXT = OwnPrompt(
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
@pytest.mark.parametrize(
    "prompt", [*PROMPTS, CLASSES_IN_EVERY_TEXT], ids=lambda p: p if isinstance(p, str) else "classes in every text"
)
def test_the_estimate_is_at_least_the_cost_bound_and_not_much_higher(prompt, shots):
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
    estimate = model.cost(1, (640, 480), len(ESC10))
    assert estimate.requests == len(requests)
    bounds = [cost_bound(request, model.model, model.endpoint) for request in requests]
    tokens, usd = sum(t for t, _ in bounds), sum(u for _, u in bounds)
    assert tokens <= estimate.tokens <= 1.5 * tokens + 1500
    assert usd <= estimate.usd
