"""The key `perturb` of classifiers that receive audio or images of it.

Belongs here: the field and its fingerprint. Does not belong here: the change of the audio (`datasets.perturbation`).
"""

from typing import Any

from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.perturbation import Perturb, Perturbation


class PerturbedInput(Spec):
    """A classifier that can classify the clips again with changed audio."""

    perturb: Perturb | None = None
    """Classify again with changed audio (noise, gain, low-pass); by default as the key `perturb` of the study says, null: do not."""

    @property
    def perturbations(self) -> tuple[Perturbation, ...]:
        """The changes of the audio, each a condition under which the clips are classified again."""
        return () if self.perturb is None else self.perturb.perturbations

    def perturbation_parameters(self) -> dict[str, Any]:
        """Return the changes as stage parameters, {} without any: the content of a file of noise, not its path."""
        changes = {change.name: change.parameters() for change in self.perturbations}
        return {"perturb": changes} if changes else {}

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result. Without changes of the audio, they are those of a classifier without this key."""
        fields = super().fingerprint_fields()
        fields.pop("perturb", None)
        return {**fields, **self.perturbation_parameters()}
