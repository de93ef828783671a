"""The kind `language_model`: a model that is shown a picture of a sound, or the sound, and asked which class it is.

What belongs here: what a study can say of it, and which tables it makes from which: examples, answers, predictions. What
does not: how any of these is made (see the files beside this one).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec, Control
from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import why_not
from vlm_audio_pipeline.classifiers.language_models.endpoint.reckoning import Content, estimate
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.examples import Select
from vlm_audio_pipeline.classifiers.language_models.messages import Sampling, Scoring
from vlm_audio_pipeline.classifiers.language_models.predicting import Calibrate, Normalise
from vlm_audio_pipeline.classifiers.language_models.prompts import PromptChoice, Shown, prompt_of
from vlm_audio_pipeline.classifiers.language_models.questions import Form
from vlm_audio_pipeline.classifiers.language_models.scripted import Script
from vlm_audio_pipeline.classifiers.language_models.stages import answers_stage, examples_stage, predictions_stage
from vlm_audio_pipeline.classifiers.language_models.trials import Trial, trials
from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.specs import not_identity, refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Stage
from vlm_audio_pipeline.datasets.esc_classes import class_name
from vlm_audio_pipeline.encoders.base import EncoderSpec, ModelCard
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, device_of, dtype_of
from vlm_audio_pipeline.encoders.weights import ModelName, Weights


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"must be named once each, got {list(values)}")
    return values


@CLASSIFIERS.register("language_model")
class LanguageModel(ClassifierSpec):
    """A vision-language or audio-language model, asked which class a clip is of, with or without examples."""

    sees: ClassVar[bool] = True

    model: ModelName
    """Model id on the hub, a folder (`./...` is seen from the study file), or the endpoint's name for the model."""
    revision: str | None = not_identity(None)
    """Branch, tag or commit of the model; by default its default branch, as `vlm-audio fetch` last found it."""
    backend: Literal["transformers", "openai", "scripted"] = "transformers"
    """transformers: on this machine; openai: any OpenAI-compatible endpoint; scripted: no model, for trying a study out."""
    input: Literal["picture", "audio"] = "picture"
    """What the model is given of a clip: a rendering of it, or its sound."""
    rendering: str | None = refers_to("renderings", None)
    """Name of the rendering in the study; needed for pictures."""

    prompt: PromptChoice = "plain"
    """paper, notebook, plain, or a text of the study's own: `{text: "... {classes} ..."}`."""
    label_form: Literal["raw", "human"] = "raw"
    """How classes are called: `sea_waves` or `sea waves`."""
    scoring: Annotated[tuple[Scoring, ...], AfterValidator(_once)] = Field((), max_length=2)
    """likelihood (how probable each class's answer is) and generation (what it says); by default all the backend can."""
    controls: Annotated[tuple[Control | Literal["no_image"], ...], AfterValidator(_once)] = ()
    """Ask again with the query's picture blank, time_shuffled, of other_clip, or with no_image at all."""

    shots: int = Field(0, ge=0, le=20)
    """Examples of each class, from other folds."""
    select: Select = "medoid"
    """How examples are chosen: random, or on the encoder's vectors: medoid, diverse, nearest to each query."""
    examples: tuple[str, ...] = ()
    """Ids of the clips to show, in place of choosing; those of the query's fold are left out."""
    encoder: str | None = refers_to("encoders", None)
    """Whose vectors examples are chosen on, and the matched baseline (k-NN on the very same examples) stands on."""
    permuted_labels: bool = False
    """Show examples under other classes' labels: a model that reads its examples is then wrong."""

    draws: int = Field(1, ge=1, le=100)
    """Draws of examples."""
    orders: int = Field(1, ge=1, le=100)
    """Orders in which the prompt lists the classes; the first is the prompt's own."""
    paraphrases: int = Field(1, ge=1)
    """Wordings of the prompt; the first is the prompt itself."""
    repeats: int = Field(1, ge=1, le=100)
    """Times the same is asked: of an endpoint, or at a temperature above 0."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Of generated answers; 0 is greedy. Likelihoods know none."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling; 1 is off."""
    max_tokens: int = Field(32, ge=1, le=4096)
    """Longest generated answer, tokens."""
    seed: int = Field(0, ge=0)
    """Of draws, orders and sampled answers."""

    normalise: Normalise = "none"
    """Likelihoods as they are (none), or as a mean over the tokens of the answer (length)."""
    calibrate: Annotated[tuple[Calibrate, ...], AfterValidator(_once)] = ()
    """contextual: relative to the same prompt with a blank picture; temperature: fitted on the other folds."""
    synonyms: dict[str, tuple[str, ...]] = Field({})
    """More words that mean a class, for reading answers: `{dog: [hound]}`."""

    device: Device = not_identity("auto")
    """Where to compute: auto takes a GPU where there is one."""
    dtype: Dtype = not_identity("auto")
    """Number format; auto is bfloat16 on a GPU, else float32. Recorded as it was."""
    quantization: Literal["4bit"] | None = None
    """Weights in 4 bits, on a GPU (needs bitsandbytes)."""
    batch_size: int | None = not_identity(None, ge=1)
    """Questions at a time, halved when memory runs out; by default 8 on a GPU and 1 elsewhere."""
    endpoint: Endpoint = Endpoint()
    """Where and how an endpoint is asked."""
    script: Script = Script()
    """What the scripted model does."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, message in (
            (
                self.input == "picture" and self.rendering is None,
                "rendering must be given for pictures, got none; name one",
            ),
            (
                self.input == "audio" and self.rendering is not None,
                f"rendering must be left out for sounds, got '{self.rendering}'; drop it, or use `input: picture`",
            ),
            (
                self.input == "audio" and "time_shuffled" in self.controls,
                "controls of a sound must be blank, other_clip or no_image, got time_shuffled; drop it",
            ),
            (
                self.backend == "openai" and "likelihood" in self.scoring,
                "scoring must be generation for an endpoint, which gives no likelihood of labels, got likelihood; drop it",
            ),
            (
                "contextual" in self.calibrate and "blank" not in self.controls,
                "controls must hold blank for `calibrate: [contextual]`, which compares with it; add it",
            ),
            (
                self.shots > 0 and self.encoder is None,
                "encoder must be given with shots: examples are chosen on its vectors, and the matched baseline (k-NN on "
                "the very same examples) stands on them; name one, such as classical features",
            ),
            (bool(self.examples) and not self.shots, "shots must be 1 or more with `examples`, got 0; give `shots`"),
            (
                self.draws > 1 and (not self.shots or bool(self.examples) or self.select == "nearest"),
                "draws must be 1 where nothing is drawn (no shots, given or nearest examples); drop it",
            ),
            (
                self.repeats > 1 and self.backend != "openai" and self.temperature == 0,
                f"repeats must be 1 for greedy answers of a local model, which are the same every time, got "
                f"{self.repeats}; give a temperature",
            ),
            (
                self.permuted_labels and not self.shots,
                "permuted_labels must go with shots, got 0: there are no examples to permute; drop it",
            ),
            (
                self.paraphrases > (known := len(prompt_of(self.prompt).wordings(self.shown))),
                f"paraphrases must be at most {known}, the wordings this prompt has, got {self.paraphrases}; write your "
                "own under `prompt: {text: ..., wordings: [...]}`",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self

    @property
    def shown(self) -> Shown:
        """What prompts speak of."""
        return "picture" if self.input == "picture" else "sound"

    @property
    def wants(self) -> frozenset[Scoring]:
        """The scorings asked for."""
        able: tuple[Scoring, ...] = ("generation",) if self.backend == "openai" else ("likelihood", "generation")
        return frozenset(self.scoring or able)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The passes over the clips."""
        return trials(self.draws, self.orders, self.paraphrases, self.repeats)

    @property
    def weights(self) -> Weights | None:
        """The files it is loaded from; None for an endpoint."""
        return Weights(self.model, self.revision) if self.backend == "transformers" else None

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        if self.weights is not None and self.weights.is_packaged:
            about = "synthetic sounds made by this project; no claim about any real model"
            return ModelCard(
                f"{self.model}: Janus' architecture, trained for the demo", "Apache-2.0", training_data=about
            )
        return ModelCard(title=self.model, training_data="not known to this project")

    @property
    def number_format(self) -> str:
        """Number format of the computation, with auto resolved."""
        return dtype_of(self.dtype, device_of(self.device), bf16_safe=True)

    @property
    def accelerator(self) -> bool:
        """Whether a GPU is wanted."""
        return self.backend == "transformers" and self.device != "cpu"

    @property
    def paid(self) -> bool:
        """Whether asking may cost money."""
        return self.backend == "openai" and not self.endpoint.is_loopback

    def unavailable(self) -> str | None:
        """Say why it cannot be asked from this machine now (weights or key missing), or None."""
        if self.backend == "openai":
            return why_not(self.model, self.endpoint, budget=True)  # that there is one is the graph's to say
        return self.weights.missing() if self.weights else None

    def asker(self) -> dict[str, Any]:
        """Give what identifies the model in the keys of its answers."""
        if self.backend == "openai":
            return {"backend": "openai", "model": self.model, **self.endpoint.identity()}
        if self.weights is None:
            return {"backend": "scripted", **self.script.model_dump()}
        own = {"quantization": self.quantization} if self.quantization else {}
        return {"backend": "transformers", "revision": self.weights.resolve(), "dtype": self.number_format, **own}

    def names(self, classes: tuple[str, ...]) -> dict[str, str]:
        """Give what each class is called in prompts and answers."""
        return {c: class_name(c).human if self.label_form == "human" else c for c in classes}

    def form(self, classes: tuple[str, ...]) -> Form:
        """Give what all its questions have in common."""
        return Form(
            prompt=prompt_of(self.prompt),
            shown=self.shown,
            names=self.names(classes),
            wants=self.wants,
            controls=tuple(self.controls),
            trials=self.trials,
            sampling=Sampling(self.temperature, self.top_p, self.max_tokens, self.seed),
            seed=self.seed,
            repeats_differ=self.backend == "openai" or self.temperature > 0,
        )

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give its stages: examples (where it is shown any), answers, predictions.

        Raises:
            BadStudy: when there is no encoder of that name, or only one fold to take examples and queries from.
        """
        if self.encoder is not None and self.encoder not in encoders:
            raise BadStudy(
                f"classifiers.{name}.encoder: must name one of the encoders, got '{self.encoder}'; "
                f"{suggestion(self.encoder, encoders)}"
            )
        if self.shots and len(folds) < 2:
            raise BadStudy(
                f"classifiers.{name}.shots: must be 0 for a dataset of one fold, got {self.shots}: examples come from "
                "other folds; give the dataset two or more"
            )
        if "temperature" in self.calibrate and len(self.folds or folds) < 2:
            raise BadStudy(
                f"classifiers.{name}.calibrate: temperature is fitted on other folds and must have two or more, got "
                f"{list(self.folds or folds)}; drop it or name more folds"
            )
        chosen = [examples_stage(self, folds)] if self.shots else []
        return [*chosen, answers_stage(self, name, folds), predictions_stage(self, name, folds)]

    def cost(self, clips: int, size: tuple[int, int] = (1024, 1024), classes: int = 10) -> Cost:
        """Give what asking about so many clips takes at most.

        Args:
            clips: how many.
            size: width and height of a picture, pixels.
            classes: how many, for the examples of each.
        """
        requests = clips * len(self.trials) * (1 + len(self.controls))
        if not self.paid:
            return Cost(requests)
        shown = 1 + classes * self.shots
        said = [
            "".join((w.system or "", w.instructions, w.examples, w.lead * shown)).encode()
            for w in prompt_of(self.prompt).wordings(self.shown)
        ]
        content = Content(
            messages=2 * shown,
            text_bytes=max(len(text) + 30 * classes * max(text.count(b"{classes}") - 1, 0) for text in said)
            + 60 * classes * (1 + self.shots),
            pictures=[size] * shown if self.input == "picture" else [],
            sounds_s=[] if self.input == "picture" else [10.0] * shown,
            max_tokens=self.max_tokens,
            labels_bytes=30 * classes,
        )
        tokens, usd = estimate(content, self.model, self.endpoint)
        return Cost(requests, requests * tokens, requests * (usd or 0.0))
