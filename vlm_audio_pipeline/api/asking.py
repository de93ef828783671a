"""`vap.ask`: one question to a language model about one recording, as a study would ask it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.api.recordings import Recording, recording_files
from vlm_audio_pipeline.api.rendering import Rendering

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.messages import Message
    from vlm_audio_pipeline.planning.single_response import SingleResponse
    from vlm_audio_pipeline.renderings.image import RenderedImage


@dataclass(frozen=True, repr=False)
class ModelResponse:
    """The response of a language model to one recording. A notebook shows it as `vlm-audio try` does.

    Attributes:
        label: the class that the generated text names; None if it names none, or if no text was generated.
        outcome: of the text: answered, unparseable, refused, ...; without a text that of the request.
        text: the generated text, verbatim; None if no text was generated.
        log_probabilities: summed log-probability of each class (natural logarithm); None if the classes were not scored.
        error: the error message, or None.
        messages: the request.
        rendered_messages: the request as text, in the model's own chat template; None for an endpoint.
        image: the image that was sent about the recording; None if audio was sent.
    """

    label: str | None
    outcome: str
    text: str | None
    log_probabilities: Mapping[str, float] | None
    error: str | None
    messages: "tuple[Message, ...]"
    rendered_messages: str | None
    image: "RenderedImage | None"
    _response: "SingleResponse" = field(compare=False)
    _shows_messages: bool = field(compare=False)

    @property
    def likeliest(self) -> str | None:
        """The class with the highest log-probability; the first of equal ones. None if the classes were not scored."""
        scores = self.log_probabilities
        return None if not scores else max(scores, key=lambda name: scores[name])

    def __repr__(self) -> str:
        from vlm_audio_pipeline.api.tables import view_text
        from vlm_audio_pipeline.cli.single_response import response_view

        return view_text(response_view(self._response, messages=self._shows_messages))


def ask(
    recording: Recording,
    model: str,
    *,
    classes: Sequence[str] | None = None,
    study: str | Path | None = None,
    rendering: Rendering = "paper",
    messages: bool = False,
    data: str | Path | None = None,
    **settings: Any,
) -> ModelResponse:
    """Ask a language model about one recording, with the same prompt as in a study.

    The response is kept in the result store of the data folder, so that it is paid for only once.

    Args:
        recording: an audio file, or (samples, sample rate).
        model: a model id of the hub, a folder, a model of this package (`demo-janus`), or with `study` the name of one of
            its language models, whose examples are used.
        classes: the classes of the prompt; required without `study`, which has its own.
        study: a built-in study, a study file, or a study that was run.
        rendering: the rendering of the image; see `vap.render`.
        messages: also show the complete request.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        **settings: keys of the language model as in a study file: `prompt="paper"`, `scoring=["generation"]`, `input="audio"`, ...

    Returns:
        The response. `error` is set if the request failed.

    Raises:
        BadStudy: for an unknown key, and for fewer than two classes.
        VlmAudioError: for a classifier that is not a language model.
        BadClips: for a recording that cannot be decoded.
        MissingInput: if the examples of the study were not computed yet.
        NotAvailable: if weights, keys or a budget are missing.
    """
    from vlm_audio_pipeline.api.classifying import language_model_parts
    from vlm_audio_pipeline.api.recording_study import measure_recordings, open_data, refuse_settings
    from vlm_audio_pipeline.contracts.errors import BadStudy
    from vlm_audio_pipeline.planning.opening import open_graph
    from vlm_audio_pipeline.planning.single_response import ask_about_recording

    with open_data(data) as data_folder, recording_files([recording]) as files:
        if study is not None:
            refuse_settings(study, {**({} if classes is None else {"classes": classes}), **settings})
            graph, name = open_graph(study, data_folder), model
        elif classes is None:
            raise BadStudy('`classes` is required without `study`; give for example classes=["dog", "rain"]')
        else:
            graph, name = language_model_parts(model, rendering, settings).graph(files, data_folder, classes), "model"
        measure_recordings(files)  # its errors have the name that the caller gave
        return _model_response(ask_about_recording(graph, name, files[0].path), messages)


def _model_response(response: "SingleResponse", shows_messages: bool) -> ModelResponse:
    parsed = response.parsed
    return ModelResponse(
        label=None if parsed is None else parsed.label,
        outcome=response.outcome if parsed is None else parsed.outcome,
        text=response.text,
        log_probabilities=response.log_probabilities,
        error=response.error,
        messages=response.messages,
        rendered_messages=response.rendered_messages,
        image=_last_image(response.messages),
        _response=response,
        _shows_messages=shows_messages,
    )


def _last_image(messages: "Sequence[Message]") -> "RenderedImage | None":
    """Return the image of the recording, which comes after those of the examples."""
    from io import BytesIO

    from PIL import Image

    from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
    from vlm_audio_pipeline.renderings.image import RenderedImage

    parts = [part for message in messages for part in message.parts if isinstance(part, ImagePart)]
    if not parts:
        return None
    with Image.open(BytesIO(parts[-1].data)) as image:
        return RenderedImage(parts[-1].data, parts[-1].media_type, *image.size)
