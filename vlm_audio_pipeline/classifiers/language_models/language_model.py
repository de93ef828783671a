"""The kind `language_model`: a model gets the image or the audio of a clip and is asked for its class.

Belongs here: the study-file keys that all backends share, and the contract of a backend. Each backend (`local`, `endpoint`,
`scripted`) is a subclass that adds its own keys.
"""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec, Control, Needs
from vlm_audio_pipeline.classifiers.language_models.examples import SelectionStrategy
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, BatchProgress, Sampling, Scoring
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.predicting import Calibrate, Normalise
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import PromptChoice, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder
from vlm_audio_pipeline.classifiers.language_models.sentence_answers import ParsedResponse
from vlm_audio_pipeline.classifiers.language_models.stages import examples_stage, predictions_stage, responses_stage
from vlm_audio_pipeline.classifiers.language_models.trials import Trial, trials
from vlm_audio_pipeline.classifiers.perturbed import PerturbedInput
from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import check_distinct, refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Stage, StageContext
from vlm_audio_pipeline.datasets.class_names import class_name
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import ModelName, Weights
from vlm_audio_pipeline.storage.result_store import ResultStore

MAX_TRIALS = 10_000
"""Largest number of passes over the clips of one classifier."""


@CLASSIFIERS.register("language_model")
class LanguageModel(PerturbedInput, ClassifierSpec):
    """A vision-language or audio-language model that is asked for the class of each clip, with or without examples."""

    backend_name: ClassVar[str] = ""
    """Name of the backend in the registry, which sets it."""
    supported_scorings: ClassVar[tuple[Scoring, ...]] = ("likelihood", "generation")
    """Scorings the backend can compute."""
    selects_by_vectors: ClassVar[bool] = True
    """Whether examples need an encoder: for their selection, and for the k-NN baseline on the same examples."""
    is_deterministic: ClassVar[bool] = True
    """Whether the backend returns the same response each time a request is sent at temperature 0."""

    model: ModelName
    """Model id on the hub, a folder (`./...` is relative to the study file), or the endpoint's name for the model."""
    backend: str = "transformers"
    """Backend that runs the model: transformers, openai or scripted. Each backend adds its own keys."""
    input: Literal["image", "audio"] = "image"
    """Input of the model: the image of a clip (its rendering) or its audio."""
    rendering: str | None = refers_to("renderings", None)
    """Name of the rendering in the study; required for images."""

    prompt: PromptChoice = "plain"
    """paper, notebook, one_word, plain, or a prompt of the study: `{text: "... {classes} ..."}`."""
    label_form: Literal["raw", "human"] = "raw"
    """How class names are written: `sea_waves` (raw) or `sea waves` (human)."""
    scoring: Annotated[tuple[Scoring, ...], AfterValidator(check_distinct)] = Field((), max_length=3)
    """likelihood (the probability of each class label), generation (the generated text) and, for endpoints, first_token (the
    probability of the first token of each label, not a likelihood); by default likelihood and generation, as far as supported."""
    controls: Annotated[tuple[Control | Literal["no_image"], ...], AfterValidator(check_distinct)] = ()
    """Repeat the requests with another query image: blank, time_shuffled, other_clip, or without an image (no_image)."""

    shots: int = Field(0, ge=0, le=20)
    """Number of examples of each class, from other folds."""
    select: SelectionStrategy = "medoid"
    """How examples are selected: random, or by the vectors of `encoder`: medoid, diverse, nearest to each query."""
    examples: tuple[str, ...] = ()
    """Ids of the example clips, instead of `select`; clips of the query's fold are skipped."""
    encoder: str | None = refers_to("encoders", None)
    """Encoder for the selection of examples and for the baseline (k-NN on the same examples)."""
    permuted_labels: bool = False
    """Assign labels of other classes to the examples: a model that uses its examples then predicts wrong classes."""

    draws: int = Field(1, ge=1, le=100)
    """Number of draws of examples."""
    orders: int = Field(1, ge=1, le=100)
    """Number of orders in which the prompt lists the classes; the first is that of the prompt, the others are rotations. With as
    many orders as classes, every class is at every position once."""
    paraphrases: int = Field(1, ge=1)
    """Number of wordings of the prompt; the first is the prompt itself."""
    repeats: int = Field(1, ge=1, le=100)
    """Number of times that each request is sent; above 1 only for an endpoint, or at a temperature above 0."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Sampling temperature of generated text; 0 is greedy. It does not affect likelihoods."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling; 1 is off."""
    max_tokens: int = Field(32, ge=1)
    """Maximum length of generated text, tokens."""
    seed: int = Field(0, ge=0)
    """Seed of draws, class orders and sampled text."""

    normalise: Normalise = "none"
    """Use log-probabilities as they are (none), or divided by the number of tokens of the label (length)."""
    calibrate: Annotated[tuple[Calibrate, ...], AfterValidator(check_distinct)] = ()
    """contextual: relative to the same prompt with a blank image; temperature: scaled by a temperature
    that is fitted on the other folds."""
    synonyms: dict[str, tuple[str, ...]] = Field({})
    """More words that mean a class, for parsing responses: `{dog: [hound]}`."""

    @classmethod
    def spec_class(cls, values: Mapping[str, Any]) -> type["LanguageModel"]:
        """Return the class of the backend that an entry names.

        Raises:
            VlmAudioError: if the backend is unknown, or a key belongs to another backend.
        """
        backend = str(values.get("backend", cls.model_fields["backend"].default))
        spec_class = BACKENDS.get(backend)
        for name, other in BACKENDS.all().items():
            if foreign := sorted(key for key in values if key in other.model_fields.keys() - spec_class.model_fields):
                raise VlmAudioError(
                    f"{foreign[0]} is a key of backend {name}, got backend {backend}; remove it or use `backend: {name}`"
                )
        return spec_class

    @classmethod
    def spec_classes(cls) -> Mapping[str, type["LanguageModel"]]:
        """Map the name of every backend to its class; the default backend has the name ""."""
        default = cls.model_fields["backend"].default
        return {"" if name == default else name: spec_class for name, spec_class in BACKENDS.all().items()}

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result, and the backend unless it is transformers."""
        default = LanguageModel.model_fields["backend"].default
        return {**super().fingerprint_fields(), **({} if self.backend == default else {"backend": self.backend})}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        for is_wrong, message in (
            (
                self.input == "image" and self.rendering is None,
                "rendering is required for `input: image`, got none; name one of the study's renderings",
            ),
            (
                self.input == "audio" and self.rendering is not None,
                f"rendering must be left out for `input: audio`, got '{self.rendering}'; remove it, or use `input: image`",
            ),
            (
                self.input == "audio" and "time_shuffled" in self.controls,
                "controls of audio must be blank, other_clip or no_image, got time_shuffled; remove it",
            ),
            (
                bool(unsupported := set(self.scoring) - set(self.supported_scorings)),
                f"scoring must be {' or '.join(self.supported_scorings)} for backend {self.backend}, got "
                f"{' and '.join(sorted(unsupported))}; remove it",
            ),
            (
                "contextual" in self.calibrate and "blank" not in self.controls,
                "`calibrate: [contextual]` compares with blank images, so controls must contain blank; add it",
            ),
            (
                self.selects_by_vectors and self.shots > 0 and self.encoder is None,
                "encoder is required with shots: its vectors select the examples, and the baseline (k-NN on the same "
                "examples) uses them; name one, such as an encoder of kind features",
            ),
            (bool(self.examples) and not self.shots, "shots must be 1 or more with `examples`, got 0; give `shots`"),
            (
                self.draws > 1 and (not self.shots or bool(self.examples) or self.select == "nearest"),
                f"draws must be 1 without shots, with `examples`, or with `select: nearest`, got {self.draws}; remove it",
            ),
            (
                self.repeats > 1 and self.is_deterministic and self.temperature == 0,
                f"repeats must be 1 at temperature 0 with backend {self.backend}, which repeats its responses exactly, got "
                f"{self.repeats}; set a temperature above 0",
            ),
            (
                (passes := self.draws * self.orders * self.paraphrases * self.repeats) > MAX_TRIALS,
                f"draws x orders x paraphrases x repeats must be at most {MAX_TRIALS}, got {passes}; reduce one of them",
            ),
            (
                self.permuted_labels and not self.shots,
                "permuted_labels needs shots, got 0: it permutes the labels of examples; remove it",
            ),
            (
                self.paraphrases > (available := len(resolve_prompt(self.prompt).wordings(self.input))),
                f"paraphrases must be at most {available}, the number of wordings of this prompt, got {self.paraphrases}; "
                "write your own under `prompt: {text: ..., wordings: [...]}`",
            ),
        ):
            if is_wrong:
                raise ValueError(message)
        return self

    @property
    def scorings(self) -> frozenset[Scoring]:
        """The scorings to compute."""
        return frozenset(self.scoring or self.default_scorings)

    @property
    def default_scorings(self) -> tuple[Scoring, ...]:
        """The scorings to compute if the study names none."""
        return self.supported_scorings

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The passes over the clips."""
        return trials(self.draws, self.orders, self.paraphrases, self.repeats)

    def needs(self) -> Needs:
        """Return the rendering, the encoder of examples, the weights and the number of trials."""
        return Needs(
            encoder=self.encoder,
            rendering=self.rendering,
            controls=self.controls,
            perturbations=self.perturbations,
            weights=self.weights,
            card=self.card,
            shots=self.shots,
            trials=len(self.trials),
            random_draws=self.draws if self.shots and self.select == "random" and not self.examples else 0,
            asks_per_clip=True,
            accepted_models=self.accepted_models,
        )

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return the model, the prompt, the examples and how text is generated."""
        prompt = resolve_prompt(self.prompt)
        by = f" by {self.encoder}" if self.selects_by_vectors else ""
        selection = "ids in the study" if self.examples else f"{self.select}{by}"
        permuted = ", with permuted labels" if self.permuted_labels else ""
        sampling = f"temperature {self.temperature:g}, top_p {self.top_p:g}" if self.temperature else "greedy"
        return Protocol(
            setting="few-shot" if self.shots else "zero-shot",
            input="spectrogram image" if self.input == "image" else "audio",
            model=self.model,
            prompt=prompt.name if isinstance(self.prompt, str) else prompt.wordings(self.input)[0].instructions,
            label_form=self.label_form,
            shots=self.shots,
            examples=f"{selection}{permuted}" if self.shots else None,
            decoding=f"{sampling}, at most {self.max_tokens} tokens",
            trials=len(self.trials),
            audio=None if self.input == "image" else "as recorded",
            rendering=self.rendering,
        )

    @property
    def weights(self) -> Weights | None:
        """The model's files; None if the backend loads no files."""
        return None

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return ModelCard(title=self.model, training_data="not known to this project")

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if the machine has one."""
        return False

    @property
    def paid(self) -> bool:
        """Whether requests may cost money."""
        return False

    @property
    def accepted_models(self) -> tuple[str, ...] | None:
        """Ids that may answer beside each other; None if no endpoint answers."""
        return None

    def unavailable(self) -> str | None:
        """Return why this machine cannot send requests to the model now (weights or key missing), or None."""
        return None

    def retirement_warning(self, today: date) -> str | None:
        """Return when the provider retires the model, if that day has passed or comes soon; None without a provider."""
        return None

    @abstractmethod
    def model_identity(self) -> dict[str, Any]:
        """Return the values (JSON) that identify the model in the result keys of its responses."""

    def possible_identities(self, revision: str | None) -> list[dict[str, Any]]:
        """Return the identities (see `model_identity`) that the model of a stored response may have had.

        Args:
            revision: the revision that the response records.
        """
        return [self.model_identity()]

    @abstractmethod
    def open_backend(self, context: StageContext) -> Backend:
        """Return the backend that answers the requests of a stage. It is called only if there is a request to send.

        Raises:
            NotAvailable: if the model cannot be used at all.
        """

    def live_model(self) -> Self:
        """Return the same model with requests that are answered at once, for a person who waits."""
        return self

    def poll_batches(self, result_store: ResultStore) -> BatchProgress | None:
        """Return the progress of the open batches of the model; None without open batches, or without a batch API.

        Raises:
            ConnectionError: if the server cannot be reached now.
        """
        return None

    def class_names(self, classes: tuple[str, ...]) -> dict[str, str]:
        """Map each class to its name in prompts and responses."""
        return {c: class_name(c).readable_name if self.label_form == "human" else c for c in classes}

    def parse_text(self, text: str, classes: tuple[str, ...]) -> ParsedResponse:
        """Read a generated response about one recording.

        Args:
            text: the response.
            classes: every class of the study.
        """
        return parse_response(text, classes, self.synonyms)

    def question_builder(self, classes: tuple[str, ...]) -> QuestionBuilder:
        """Return the builder of all questions about these classes."""
        return QuestionBuilder(
            prompt=resolve_prompt(self.prompt),
            input=self.input,
            names=self.class_names(classes),
            scorings=self.scorings,
            controls=self.needs().conditions,
            trials=self.trials,
            sampling=Sampling(self.temperature, self.top_p, self.max_tokens, self.seed),
            seed=self.seed,
            repeats_differ=not self.is_deterministic or self.temperature > 0,
        )

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return the stages: examples (with `shots`), responses, predictions.

        Raises:
            BadStudy: if the study has no encoder of that name, or the dataset has too few folds.
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
                f"classifiers.{name}.calibrate: temperature is fitted on other folds and needs two or more folds, got "
                f"{list(self.folds or folds)}; remove it or name more folds"
            )
        examples = [examples_stage(self, folds)] if self.shots else []
        return [*examples, responses_stage(self, name, folds), predictions_stage(self, name, folds)]

    def cost(self, clips: int, size: tuple[int, int] = (1024, 1024), classes: int = 10) -> Cost:
        """Return the maximum number of requests for the clips."""
        return Cost(clips * len(self.trials) * (1 + len(self.needs().conditions)))


BACKENDS: Registry[LanguageModel] = Registry(
    "language model backend",
    "vlm_audio_pipeline.classifiers.language_models",
    attribute="backend_name",
)
