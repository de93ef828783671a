"""The kind `language_model`: a model gets an image or the audio of a clip and is asked which class it is.

Belongs here: the study-file keys that all backends share, and the contract of a backend. Each backend (`local`, `endpoint`,
`scripted`) is a subclass with keys of its own.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec, Control, Needs
from vlm_audio_pipeline.classifiers.language_models.examples import Select
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Sampling, Scoring
from vlm_audio_pipeline.classifiers.language_models.predicting import Calibrate, Normalise
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import PromptChoice, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder
from vlm_audio_pipeline.classifiers.language_models.stages import examples_stage, predictions_stage, responses_stage
from vlm_audio_pipeline.classifiers.language_models.trials import Trial, trials
from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Stage, StageContext
from vlm_audio_pipeline.datasets.class_names import class_name
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import ModelName, Weights


def _check_unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"must be named once each, got {list(values)}")
    return values


@CLASSIFIERS.register("language_model")
class LanguageModel(ClassifierSpec):
    """A vision-language or audio-language model that is asked for the class of each clip, with or without examples."""

    backend_name: ClassVar[str] = ""
    """Name under which the backend is registered; set by the registry."""
    scorings_supported: ClassVar[tuple[Scoring, ...]] = ("likelihood", "generation")
    """Scorings the backend can compute."""
    is_deterministic: ClassVar[bool] = True
    """Whether the backend returns the same response to a request that is sent again at temperature 0."""

    model: ModelName
    """Model id on the hub, a folder (`./...` starts from the study file), or the endpoint's name for the model."""
    backend: str = "transformers"
    """What runs the model: transformers, openai or scripted. A backend adds keys of its own."""
    input: Literal["image", "audio"] = "image"
    """What the model gets of a clip: an image (its rendering) or its audio."""
    rendering: str | None = refers_to("renderings", None)
    """Name of the rendering in the study; required for images."""

    prompt: PromptChoice = "plain"
    """paper, notebook, plain, or a prompt of the study: `{text: "... {classes} ..."}`."""
    label_form: Literal["raw", "human"] = "raw"
    """How class names are written: `sea_waves` (raw) or `sea waves` (human)."""
    scoring: Annotated[tuple[Scoring, ...], AfterValidator(_check_unique)] = Field((), max_length=2)
    """likelihood (the probability of each class label) and generation (the generated text); by default all that the backend
    supports."""
    controls: Annotated[tuple[Control | Literal["no_image"], ...], AfterValidator(_check_unique)] = ()
    """Ask again with the query's image blank, time_shuffled, of other_clip, or without it (no_image)."""

    shots: int = Field(0, ge=0, le=20)
    """Number of examples of each class, from other folds."""
    select: Select = "medoid"
    """How examples are selected: random, or by the vectors of `encoder`: medoid, diverse, nearest to each query."""
    examples: tuple[str, ...] = ()
    """Ids of the example clips, in place of `select`; clips of the query's fold are left out."""
    encoder: str | None = refers_to("encoders", None)
    """Encoder for the selection of examples and for the baseline: k-NN on the very same examples."""
    permuted_labels: bool = False
    """Give the examples the labels of other classes: a model that uses its examples then predicts wrong classes."""

    draws: int = Field(1, ge=1, le=100)
    """Number of draws of examples."""
    orders: int = Field(1, ge=1, le=100)
    """Number of orders in which the prompt lists the classes; the first is that of the prompt."""
    paraphrases: int = Field(1, ge=1)
    """Number of wordings of the prompt; the first is the prompt itself."""
    repeats: int = Field(1, ge=1, le=100)
    """Number of times that each request is sent; for an endpoint, or a temperature above 0."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Sampling temperature of generated text; 0 is greedy. It does not affect likelihoods."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling; 1 is off."""
    max_tokens: int = Field(32, ge=1, le=4096)
    """Maximum length of generated text, tokens."""
    seed: int = Field(0, ge=0)
    """Seed of draws, class orders and sampled text."""

    normalise: Normalise = "none"
    """Use log-probabilities as they are (none), or divided by the number of tokens of the label (length)."""
    calibrate: Annotated[tuple[Calibrate, ...], AfterValidator(_check_unique)] = ()
    """contextual: relative to the same prompt with a blank image; temperature: scaled by one fitted on the other folds."""
    synonyms: dict[str, tuple[str, ...]] = Field({})
    """More words that mean a class, for parsing responses: `{dog: [hound]}`."""

    @classmethod
    def spec_class(cls, values: Mapping[str, Any]) -> type["LanguageModel"]:
        """Return the class of the backend that an entry names.

        Raises:
            VlmAudioError: for an unknown backend, and for a key of another backend.
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
        """Return the class of every backend by its name; the default backend has the name ""."""
        default = cls.model_fields["backend"].default
        return {"" if name == default else name: spec_class for name, spec_class in BACKENDS.all().items()}

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result, and the backend unless it is transformers."""
        default = LanguageModel.model_fields["backend"].default
        return {**super().fingerprint_fields(), **({} if self.backend == default else {"backend": self.backend})}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for is_wrong, message in (
            (
                self.input == "image" and self.rendering is None,
                "rendering must be given for `input: image`, got none; name one",
            ),
            (
                self.input == "audio" and self.rendering is not None,
                f"rendering must be left out for `input: audio`, got '{self.rendering}'; drop it, or use `input: image`",
            ),
            (
                self.input == "audio" and "time_shuffled" in self.controls,
                "controls of audio must be blank, other_clip or no_image, got time_shuffled; drop it",
            ),
            (
                bool(unsupported := set(self.scoring) - set(self.scorings_supported)),
                f"scoring must be {' or '.join(self.scorings_supported)} for backend {self.backend}, got "
                f"{' and '.join(sorted(unsupported))}; drop it",
            ),
            (
                "contextual" in self.calibrate and "blank" not in self.controls,
                "controls must contain blank for `calibrate: [contextual]`, which compares with it; add it",
            ),
            (
                self.shots > 0 and self.encoder is None,
                "encoder must be given with shots: its vectors select the examples and are the vectors of the baseline (k-NN "
                "on the very same examples); name one, such as classical features",
            ),
            (bool(self.examples) and not self.shots, "shots must be 1 or more with `examples`, got 0; give `shots`"),
            (
                self.draws > 1 and (not self.shots or bool(self.examples) or self.select == "nearest"),
                "draws must be 1 without random or selected examples (no shots, given or nearest examples); drop it",
            ),
            (
                self.repeats > 1 and self.is_deterministic and self.temperature == 0,
                f"repeats must be 1 at temperature 0 with backend {self.backend}, which repeats its responses exactly, got "
                f"{self.repeats}; set a temperature above 0",
            ),
            (
                self.permuted_labels and not self.shots,
                "permuted_labels needs shots, got 0: there are no examples to permute; drop it",
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
        return frozenset(self.scoring or self.scorings_supported)

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
            weights=self.weights,
            card=self.card,
            shots=self.shots,
            trials=len(self.trials),
            asks_per_clip=True,
        )

    @property
    def weights(self) -> Weights | None:
        """The files it is loaded from; None where the backend loads none."""
        return None

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return ModelCard(title=self.model, training_data="not known to this project")

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if there is one."""
        return False

    @property
    def paid(self) -> bool:
        """Whether requests may cost money."""
        return False

    def unavailable(self) -> str | None:
        """Return why the model cannot be asked from this machine now (weights or key missing), or None."""
        return None

    @abstractmethod
    def model_identity(self) -> dict[str, Any]:
        """Return what identifies the model in the keys of its responses, as JSON values."""

    @abstractmethod
    def open_backend(self, context: StageContext) -> Backend:
        """Return what answers the requests of a stage. Called only when there is a request to send.

        Raises:
            NotAvailable: when the model cannot be used at all.
        """

    def names(self, classes: tuple[str, ...]) -> dict[str, str]:
        """Return class -> its name in prompts and responses."""
        return {c: class_name(c).readable if self.label_form == "human" else c for c in classes}

    def question_builder(self, classes: tuple[str, ...]) -> QuestionBuilder:
        """Return the builder of all questions about these classes."""
        return QuestionBuilder(
            prompt=resolve_prompt(self.prompt),
            input=self.input,
            names=self.names(classes),
            scorings=self.scorings,
            controls=tuple(self.controls),
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
                f"classifiers.{name}.calibrate: temperature is fitted on other folds and needs two or more folds, got "
                f"{list(self.folds or folds)}; drop it or name more folds"
            )
        examples = [examples_stage(self, folds)] if self.shots else []
        return [*examples, responses_stage(self, name, folds), predictions_stage(self, name, folds)]

    def cost(self, clips: int, size: tuple[int, int] = (1024, 1024), classes: int = 10) -> Cost:
        """Return the number of requests that asking about the clips takes at most."""
        return Cost(clips * len(self.trials) * (1 + len(self.controls)))


BACKENDS: Registry[LanguageModel] = Registry(
    "language model backend",
    "vlm_audio_pipeline.classifiers.language_models",
    default_kind="transformers",
    attribute="backend_name",
)
