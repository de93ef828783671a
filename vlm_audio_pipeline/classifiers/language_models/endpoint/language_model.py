"""The backend `openai`: language models behind an OpenAI-compatible chat endpoint."""

from typing import Any, ClassVar, Literal

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend, not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import RequestSize, cost_bound
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Scoring
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import resolve_prompt
from vlm_audio_pipeline.contracts.stages import Cost, StageContext

LABEL_BYTES = 30
"""Bytes reserved for the name of a class."""
CLIP_S = 10.0
"""Length assumed for a clip before it is decoded, s."""


@BACKENDS.register("openai")
class EndpointLanguageModel(LanguageModel):
    """A language model behind an OpenAI-compatible chat endpoint. It generates text; it does not score given answers."""

    scorings_supported: ClassVar[tuple[Scoring, ...]] = ("generation",)
    is_deterministic: ClassVar[bool] = False

    backend: Literal["openai"] = "openai"
    """openai: any OpenAI-compatible chat endpoint."""
    endpoint: Endpoint = Endpoint()
    """Address of the endpoint and how requests are sent to it."""

    @property
    def paid(self) -> bool:
        """Whether requests may cost money."""
        return not self.endpoint.is_loopback

    def unavailable(self) -> str | None:
        """Return why no request can be sent (key or prices missing), or None. The graph checks the budget."""
        return not_run_reason(self.model, self.endpoint, has_budget=True)

    def model_identity(self) -> dict[str, Any]:
        """Return the model's name and what of the endpoint can change a response."""
        return {"backend": self.backend, "model": self.model, **self.endpoint.fingerprint_fields()}

    def open_backend(self, context: StageContext) -> EndpointBackend:
        """Return a client of the endpoint that spends from the ledger of the study.

        Raises:
            NotAvailable: without a budget, a key or prices.
        """
        return EndpointBackend(self.model, self.endpoint, context.ledger, context.name, f"fold {context.fold}")

    def cost(self, clips: int, size: tuple[int, int] = (1024, 1024), classes: int = 10) -> Cost:
        """Return an upper bound of what asking about the clips takes.

        Args:
            clips: number of clips.
            size: width and height of an image, pixels.
            classes: number of classes, each with its examples.
        """
        requests = super().cost(clips, size, classes)
        if not self.paid:
            return requests
        media = 1 + classes * self.shots
        texts = [
            "".join((w.system or "", w.instructions, w.examples, w.lead * media)).encode()
            for w in resolve_prompt(self.prompt).wordings(self.input)
        ]
        size_bound = RequestSize(
            messages=2 * media,
            text_bytes=max(len(t) + LABEL_BYTES * classes * max(t.count(b"{classes}") - 1, 0) for t in texts)
            + 2 * LABEL_BYTES * classes * (1 + self.shots),
            images=[size] * media if self.input == "image" else [],
            audio_s=[] if self.input == "image" else [CLIP_S] * media,
            max_tokens=self.max_tokens,
            labels_bytes=LABEL_BYTES * classes,
        )
        tokens, usd = cost_bound(size_bound, self.model, self.endpoint)
        return Cost(requests.requests, requests.requests * tokens, requests.requests * (usd or 0.0))
