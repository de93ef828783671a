"""Names of classes, from the cards of all registered datasets."""

from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.card import ClassName, readable


def class_name(label: str) -> ClassName:
    """Return the names of a label; a label that is on no card is its own name.

    Cards with the same label have the same names for it; a test checks this for all registered datasets.

    >>> class_name("sea_waves").readable
    'sea waves'
    >>> class_name("lung_crackle")
    ClassName(name='lung_crackle', readable='lung crackle', synonyms=(), description='lung crackle')
    """
    for dataset in DATASETS.all().values():
        for name in dataset.card.classes():
            if name.name == label:
                return name
    return ClassName(label, readable(label), (), readable(label))
