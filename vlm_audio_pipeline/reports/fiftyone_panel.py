"""A panel of the FiftyOne App that plays the audio of samples, because FiftyOne has no audio samples.

The App loads panels from its plugins folder, so `install_panel` writes a plugin there that imports this file.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from vlm_audio_pipeline.contracts.escapes import escape_markdown
from vlm_audio_pipeline.storage.atomic import write_atomically

PANEL = "vlm_audio_recordings"
"""Name of the panel in layouts of the App."""
PLUGIN = "vlm-audio-pipeline"
"""Name of the plugin and of its folder."""
PLAYED_SUFFIXES = (".wav", ".mp3", ".ogg", ".m4a", ".aac")
"""Formats that the App's player accepts; it refuses FLAC."""
_MAX_PLAYERS = 12

_DESCRIPTION = f"""\
name: {PLUGIN}
description: Plays the audio of samples
panels:
  - {PANEL}
"""
_CODE = """\
try:
    from vlm_audio_pipeline.reports.fiftyone_panel import register
except ImportError:  # the package is not installed in this environment

    def register(plugin):
        pass
"""


def install_panel(plugins_folder: Path) -> Path:
    """Write the plugin into the plugins folder of FiftyOne and return its folder.

    Args:
        plugins_folder: `fiftyone.config.plugins_dir`.
    """
    folder = plugins_folder / PLUGIN
    write_atomically(folder / "fiftyone.yml", _DESCRIPTION)
    write_atomically(folder / "__init__.py", _CODE)
    return folder


def audio_url(path: str) -> str:
    """Return the address of a file at the server of the App.

    >>> audio_url("/recordings/dog & cat.wav")
    '/media?filepath=%2Frecordings%2Fdog%20%26%20cat.wav'
    """
    return f"/media?filepath={quote(path, safe='')}"


def register(plugin: Any) -> None:
    """Register the panel; FiftyOne calls this when it loads the plugin."""
    import fiftyone.operators as foo
    import fiftyone.operators.types as types

    class RecordingsPanel(foo.Panel):  # type: ignore[misc]
        """Players of the selected samples, or of the sample that is open."""

        @property
        def config(self) -> Any:
            """Name, label and places of the panel."""
            return foo.PanelConfig(name=PANEL, label="Recordings", icon="graphic_eq", surfaces="grid modal")

        def on_change_selected(self, ctx: Any) -> None:
            """Render again."""

        def on_change_current_sample(self, ctx: Any) -> None:
            """Render again."""

        def render(self, ctx: Any) -> Any:
            """Return one player for each sample."""
            panel = types.Object()
            ids = [ctx.current_sample] if ctx.current_sample else list(ctx.selected or [])
            if not ids:
                panel.md("Select samples in the grid to hear them.", name="hint")
            for sample in ctx.dataset.select(ids[:_MAX_PLAYERS], ordered=True) if ids else ():
                label = escape_markdown(sample["ground_truth"].label)
                panel.md(f"**{escape_markdown(sample['clip'])}** {label}", name=f"title_{sample.id}")
                if sample["audio"] is None:
                    panel.md("The recording is not on this machine.", name=f"missing_{sample.id}")
                else:
                    name = f"player_{sample.id}"
                    panel.media_player(name, audio_url(sample["audio"]), controls=True, height="54px")
            if len(ids) > _MAX_PLAYERS:
                panel.md(f"The first {_MAX_PLAYERS} of {len(ids)} samples.", name="more")
            return types.Property(panel)

    plugin.register(RecordingsPanel)
