"""The gallery: one synthetic sound under every preset, under every control, and every synthetic sound. Made at each build."""

from collections.abc import Iterator

SOUND = "rooster"
"""The sound under the presets: it has harmonics, and silence before and after them."""
CONTROLLED_SOUND = "clock_tick"
"""The sound under the controls: its events show the order in time."""


def make_pages() -> dict[str, str | bytes]:
    """Return the page and its images, `gallery/<name>.png`."""
    images = dict(_images())
    return {"gallery.md": _page(), **{f"gallery/{name}.png": data for name, data in images.items()}}


def _images() -> Iterator[tuple[str, bytes]]:
    import vlm_audio_pipeline as vap
    from vlm_audio_pipeline.datasets.audio import resample
    from vlm_audio_pipeline.datasets.synthesis import SOUNDS
    from vlm_audio_pipeline.renderings.image import render
    from vlm_audio_pipeline.renderings.presets import PRESETS
    from vlm_audio_pipeline.renderings.recipe import find_recipe

    for name in PRESETS:
        yield name, vap.render(vap.example_sound(SOUND), name).bytes
    samples, rate_hz = vap.example_sound(CONTROLLED_SOUND)
    recipe = find_recipe("paper")
    rendering_rate_hz = recipe.rate or rate_hz
    samples = resample(samples, rate_hz, rendering_rate_hz)
    yield "control_none", render(samples, rendering_rate_hz, recipe).bytes
    yield "control_blank", render(samples, rendering_rate_hz, recipe, blank=True).bytes
    yield "control_time_shuffled", render(samples, rendering_rate_hz, recipe, shuffle_seed=0).bytes
    for label in SOUNDS:
        yield f"sound_{label}", vap.render(vap.example_sound(label), {"preset": "plain", "size": 192}).bytes


def _page() -> str:
    from vlm_audio_pipeline.datasets.synthesis import SOUNDS
    from vlm_audio_pipeline.renderings.presets import PRESETS
    from vlm_audio_pipeline.renderings.recipe import preset_recipes

    lines = [
        "# Gallery of renderings",
        f"Synthetic sounds, as a model would receive them. The sound under the presets is "
        f'`vap.example_sound("{SOUND}")`. [Renderings](renderings.md) explains the fields of a preset; [Python](python.md) shows '
        'how to render your own recording: `vap.render("dog.wav", "paper")`.',
        "## Presets",
        '<div class="presets" markdown="block">',
    ]
    recipes = preset_recipes()
    for name, preset in PRESETS.items():
        publication = preset.publication
        origin = f"Publication: <{publication}>" if "://" in publication else f"Origin: {publication}."
        lines += [
            '<section markdown="block">',
            f"### {name}",
            f"![The sound under the preset {name}](gallery/{name}.png)",
            f"{preset.description} {origin}",
            f"`{recipes[name].summary()}`",
            "</section>",
        ]
    lines += [
        "</div>",
        "## Controls",
        "A control replaces the image to test whether a model uses it. A ticking clock under `paper`: its image, blank, and with "
        "the columns in another order. `other_clip` shows the image of a clip of another class.",
        _grid({"control_none": "the image", "control_blank": "blank", "control_time_shuffled": "time_shuffled"}),
        "## The ten synthetic sounds",
        'The sounds of the demo, with the names of ESC-10\'s classes, under `{"preset": "plain", "size": 192}`.',
        _grid({f"sound_{label}": label for label in SOUNDS}),
    ]
    return "\n\n".join(lines) + "\n"


def _grid(names: dict[str, str]) -> str:
    """Return images side by side, each with its caption.

    Args:
        names: name of an image -> caption.
    """
    figures = (
        f'<figure markdown="span">\n![{caption}](gallery/{name}.png)\n<figcaption>{caption}</figcaption>\n</figure>'
        for name, caption in names.items()
    )
    return '<div class="grid-of-images" markdown>\n\n' + "\n\n".join(figures) + "\n\n</div>"
