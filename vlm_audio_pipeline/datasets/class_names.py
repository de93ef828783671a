"""Names of classes, from the cards of all registered datasets."""

from collections.abc import Collection

from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.card import ClassName, readable_label


def class_name(label: str) -> ClassName:
    """Return the names of a label; a label that is on no card is used as its own name.

    Cards with the same label have the same names for it; a test checks this for all registered datasets.

    >>> class_name("sea_waves").readable_name
    'sea waves'
    >>> class_name("lung_crackle")
    ClassName(name='lung_crackle', readable_name='lung crackle', synonyms=(), description='lung crackle')
    """
    for dataset in DATASETS.all().values():
        for name in dataset.card.classes():
            if name.name == label:
                return name
    return ClassName(label, readable_label(label), (), readable_label(label))


def class_synonyms(label: str, labels: Collection[str]) -> tuple[str, ...]:
    """Return the synonyms of a label on a card that has all labels of a study; () without such a card.

    Among other classes a synonym may mean another class: "barking" means `dog` in ESC-50, but not beside `dog_fight`.

    >>> "surf" in class_synonyms("sea_waves", ["rain", "sea_waves"]), class_synonyms("sea_waves", ["wind_farm", "sea_waves"])
    (True, ())
    """
    for dataset in DATASETS.all().values():
        names = {name.name: name for name in dataset.card.classes()}
        if names.keys() >= set(labels):
            return names[label].synonyms
    return ()
