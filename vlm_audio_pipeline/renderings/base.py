"""What a rendering is: a spec that gives the stage drawing its pictures, registered under one kind.

What belongs here: what holds of all renderings. What does not: how a picture is made (`recipe`, `picture`).
"""

from abc import abstractmethod

from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.contracts.stages import Stage


class RenderingSpec(Spec):
    """What a study file says of pictures."""

    @abstractmethod
    def stages(self, name: str) -> list[Stage]:
        """Give the stages of this rendering under its name in the study."""


RENDERINGS: Registry[RenderingSpec] = Registry("rendering", "vlm_audio_pipeline.renderings", default_kind="recipe")
