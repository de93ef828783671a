"""Advice in messages of parts that do not know the study: they write `vlm-audio fetch STUDY`."""

STUDY_PLACEHOLDER = "STUDY"
"""Stands for the study."""


def name_study(text: str, study: str) -> str:
    """Put the study into the advice of a message.

    >>> name_study("weights missing; get them with `vlm-audio fetch STUDY`", "demo")
    'weights missing; get them with `vlm-audio fetch demo`'
    """
    return text.replace(f"fetch {STUDY_PLACEHOLDER}`", f"fetch {study}`")
