"""The backend `openai`: language models behind an endpoint with OpenAI's chat completions or Anthropic's Messages API."""

from datetime import date
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import RequestSize, cost_bound
from vlm_audio_pipeline.classifiers.language_models.endpoint.retirement import retirement_warning
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, BatchProgress, Scoring
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import resolve_prompt
from vlm_audio_pipeline.contracts.stages import Cost, StageContext
from vlm_audio_pipeline.storage.result_store import ResultStore

LABEL_BYTES = 30
"""Bytes reserved for the name of a class."""
CLIP_S = 10.0
"""Duration that is assumed for a clip before it is decoded, s."""


@BACKENDS.register("openai")
class EndpointLanguageModel(LanguageModel):
    """A language model behind a chat endpoint. It generates text; some servers also give the likelihoods of labels."""

    supported_scorings: ClassVar[tuple[Scoring, ...]] = ("likelihood", "generation", "first_token")
    is_deterministic: ClassVar[bool] = False

    backend: Literal["openai"] = "openai"
    """openai: any endpoint with OpenAI's chat completions, or Anthropic's with `protocol: anthropic`."""
    endpoint: Endpoint = Endpoint()
    """Address of the endpoint and how requests are sent to it."""

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if "likelihood" in self.scoring and self.endpoint.likelihood is None:
            raise ValueError(
                "scoring must not contain likelihood for an endpoint without `likelihood`; remove it, or declare how the server "
                "returns log-probabilities: `likelihood: prompt_logprobs` (vLLM) or `likelihood: input_token_logprobs` (SGLang)"
            )
        if self.endpoint.protocol == "anthropic" and self.input == "audio":
            raise ValueError("input must be image for `protocol: anthropic`, which takes no audio, got audio")
        budget = self.endpoint.thinking_budget if self.endpoint.protocol == "anthropic" else None
        if budget is not None and budget >= self.max_tokens:
            raise ValueError(
                f"max_tokens must be above thinking_budget for `protocol: anthropic`, got {self.max_tokens} and {budget}; raise "
                "max_tokens, which counts the thinking and the answer"
            )
        if self.endpoint.batch and (others := sorted(self.scorings - {"generation"})):
            raise ValueError(
                f"scoring must be [generation] with `batch`, got {', '.join(others)}; batches return generated text only: set "
                "`scoring: [generation]`, or remove `batch`"
            )
        if "first_token" in self.scoring and (self.endpoint.structured or self.endpoint.protocol == "anthropic"):
            raise ValueError(
                "scoring must not contain first_token with `structured` (the first token is then a bracket) or `protocol: "
                "anthropic` (it returns no log-probabilities); remove it"
            )
        return self

    @property
    def default_scorings(self) -> tuple[Scoring, ...]:
        """The scorings to compute if the study names none: likelihood only if the endpoint declares it."""
        return ("generation",) if self.endpoint.likelihood is None else ("likelihood", "generation")

    @property
    def paid(self) -> bool:
        """Whether requests may cost money."""
        return self.endpoint.may_charge

    @property
    def accepted_models(self) -> tuple[str, ...]:
        """Ids that may answer although they name another model."""
        return self.endpoint.accept

    def retirement_warning(self, today: date) -> str | None:
        """Return when the provider retires the model, if soon or before; see `retirement`."""
        return retirement_warning(self.model, self.endpoint, today)

    def unavailable(self) -> str | None:
        """Return why no request can be sent (key or prices missing), or None. The graph checks the budget."""
        return not_run_reason(self.model, self.endpoint, has_budget=True)

    def model_identity(self) -> dict[str, Any]:
        """Return the model's name and the parameters of the endpoint that can change a response."""
        return {"backend": self.backend, "model": self.model, **self.endpoint.fingerprint_fields()}

    def open_backend(self, context: StageContext) -> Backend:
        """Return a client of the endpoint that spends from the ledger of the study.

        Raises:
            NotAvailable: if budget, key, prices or a package are missing.
        """
        if self.endpoint.batch:
            from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.backend import BatchBackend

            return BatchBackend(
                self.model,
                self.endpoint,
                context.ledger,
                context.name,
                context.result_store,
                self.model_identity(),
                study=context.study,
                scope=f"fold {context.fold}",
            )
        from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.live import LiveBackend

        return LiveBackend(
            self.model,
            self.endpoint,
            context.ledger,
            context.name,
            f"fold {context.fold}",
            result_store=context.result_store,
            model_identity=self.model_identity(),
            study=context.study,
        )

    def live_model(self) -> "EndpointLanguageModel":
        """Return the same model with live requests instead of batches."""
        return self._with_batch(False)

    def _with_batch(self, batch: bool | Literal["openai", "anthropic"]) -> "EndpointLanguageModel":
        return self.model_copy(update={"endpoint": self.endpoint.model_copy(update={"batch": batch})})

    def poll_batches(self, result_store: ResultStore) -> BatchProgress | None:
        """Return the progress of the open batches of the model; None without open batches."""
        if not self.endpoint.batch or self.endpoint.unavailable() is not None:
            return None
        from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.backend import poll_batches

        return poll_batches(self.model, self.endpoint, result_store)

    def cost(self, clips: int, size: tuple[int, int] = (1024, 1024), classes: int = 10) -> Cost:
        """Return an upper bound of the requests, tokens and price for the clips.

        Args:
            clips: number of clips.
            size: width and height of an image, pixels.
            classes: number of classes, each with its examples.
        """
        requests = super().cost(clips, size, classes)
        if not self.paid:
            return requests
        media = 1 + classes * self.shots
        prompt = resolve_prompt(self.prompt)
        texts = [
            "".join(
                (w.system or "", w.instructions * (media if prompt.media_first else 1), w.examples, w.lead * media)
            ).encode()
            for w in prompt.wordings(self.input)
        ]
        size_bound = RequestSize(
            messages=2 * media,
            text_bytes=max(len(t) + LABEL_BYTES * classes * max(t.count(b"{classes}") - 1, 0) for t in texts)
            + 2 * LABEL_BYTES * classes * (1 + self.shots),
            images=[size] * media if self.input == "image" else [],
            audio_s=[] if self.input == "image" else [CLIP_S] * media,
            max_tokens=self.max_tokens,
            labels_bytes=LABEL_BYTES * classes,
            labels=classes if "likelihood" in self.scorings else 0,
            generates=bool(self.scorings - {"likelihood"}),
        )
        tokens, usd = cost_bound(size_bound, self.model, self.endpoint)
        _, live_usd = cost_bound(size_bound, self.model, self.live_model().endpoint)
        _, batch_usd = cost_bound(size_bound, self.model, self._with_batch(self.endpoint.batch or True).endpoint)
        number = requests.requests
        return Cost(
            number,
            number * tokens,
            number * (usd or 0.0),
            live_usd=number * (live_usd or 0.0),
            batch_usd=number * (batch_usd or 0.0) if self.endpoint.has_batches else None,
            is_batch=bool(self.endpoint.batch),
        )
