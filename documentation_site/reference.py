"""The reference of the Python API, which mkdocstrings makes from the docstrings."""

GROUPS = {
    "Sounds and images": ("example_sound", "render", "list_renderings", "preset_gallery"),
    "Models": ("embed", "classify", "ask"),
    "Studies": ("study", "list_studies", "init", "schema"),
    "Results": ("leaderboard", "sql", "show", "open_report"),
    "This machine": ("doctor", "prune", "ui"),
    "What the functions return": ("RenderedImage", "ModelResponse", "OpenStudy", "StudyPlan", "ResultTable"),
    "Errors": ("VlmAudioError", "StepsFailed"),
}
"""Every public name, by subject."""


def make_page() -> str:
    """Return the page, with one directive of mkdocstrings for each public name."""
    lines = [
        "# Reference of the Python API",
        "`import vlm_audio_pipeline as vap` gives these names. [Python](python.md) shows how to use them.",
    ]
    for title, names in GROUPS.items():
        lines.append(f"## {title}")
        lines += [f"::: vlm_audio_pipeline.{name}" for name in names]
    return "\n\n".join(lines) + "\n"
