"""What a picture costs: this project's way and the usual one (librosa.load, specshow, savefig) on the same clips.

CPU time a clip of one thread, both ways in turns on each clip; then 400 pictures on all cores, wall time, from a cold start. Real
ESC-10 where ESC10_DIR is set, else synthetic clips. The usual way is given twice: at its best (axes placed by hand, one
BLAS thread, warm caches) and as it is mostly written (tight_layout, or a tight bounding box where there is no frame).
"""

import io
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.datasets import audio
from vlm_audio_pipeline.datasets.base import DATASETS, Dataset
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.engines import cores
from vlm_audio_pipeline.renderings import picture
from vlm_audio_pipeline.renderings.drawing import in_parallel
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.layout import Layout

CLIPS = 40
RECIPES = {
    "bare": Recipe(preset="plain", size=None, width=640, height=480),
    "bare 384 (plain)": Recipe(preset="plain"),
    "bare 1000 x 400": Recipe(preset="plain", size=None, width=1000, height=400),
    "framed (paper)": Recipe(preset="paper"),
    "framed, colorbar": Recipe(preset="paper_colorbar"),
    "bare mel 1000 x 400": Recipe(transform="mel", width=1000, height=400),
}
STAGES: dict[str, tuple[object, str]] = {
    "decode": (audio, "decode"),
    "resample": (audio, "resample"),
    "transform": (picture, "spectrum"),
    "limits": (picture, "colours"),
    "decibels, quantise, spread": (picture, "_data"),
    "frame": (picture, "frame"),
    "PNG": (picture, "encoded"),
}


def dataset(folder: Path) -> Dataset:
    """Open the real recordings, or make some."""
    layout = Layout(folder / "data")
    if os.environ.get("ESC10_DIR"):
        return DATASETS.get("esc10")(path=os.environ["ESC10_DIR"]).open(layout)
    return SyntheticDataset(clips=400).open(layout)


def rows(opened: Dataset) -> list[dict]:
    """Give what drawing needs of each clip."""
    return [{"file": c.file, "start_s": c.start_s, "end_s": c.end_s, "rate_hz": 44100} for c in opened.clips]


def usual(path: Path, recipe: Recipe, tight: bool) -> bytes:
    """Draw a clip as most programs do."""
    import librosa
    import librosa.display
    import matplotlib.pyplot as plt

    samples, rate = librosa.load(path, sr=recipe.rate)
    if recipe.transform == "mel":
        power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=recipe.n_fft, hop_length=recipe.hop_length)
    else:
        power = np.abs(librosa.stft(samples, n_fft=recipe.n_fft, hop_length=recipe.hop_length)) ** 2
    figure = plt.figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
    axes = figure.add_subplot() if recipe.frame != "none" else figure.add_axes((0, 0, 1, 1))
    mesh = librosa.display.specshow(
        librosa.power_to_db(power, ref=np.max),
        sr=rate,
        hop_length=recipe.hop_length,
        x_axis="time",
        y_axis=recipe.frequency,
        cmap=recipe.colormap,
        vmin=-80,
        vmax=0,
        ax=axes,
    )
    if recipe.frame == "none":
        axes.set_axis_off()
    else:
        axes.set(xlabel="Time (s)", ylabel="Frequency (Hz)")
        if recipe.frame.colorbar:
            figure.colorbar(mesh, ax=axes, label="Level (dB)")
    file = io.BytesIO()
    if tight and recipe.frame == "none":
        figure.savefig(file, dpi=recipe.dpi, bbox_inches="tight", pad_inches=0)
    else:
        if tight:
            figure.tight_layout()
        figure.savefig(file, dpi=recipe.dpi)
    plt.close(figure)
    return file.getvalue()


def cpu(clips: list[dict], *ways: Callable[[dict], object], times: int = 3) -> list[list[float]]:
    """Give the CPU time of each clip, s, for each way; in turns, for a machine is not equally fast all the time.

    A clip's time is the median of `times` runs after one another, as clips are drawn in a run, and of one for all ways but
    the first, which are slow enough to be measured by one.
    """
    for way in ways:
        way(clips[0])  # warm
    spent: list[list[float]] = [[] for _ in ways]
    for clip in clips:
        for number, way in enumerate(ways):
            took = []
            for _ in range(1 if number else times):
                before = time.process_time()
                way(clip)
                took.append(time.process_time() - before)
            spent[number].append(statistics.median(took))
    return spent


def compared(usual: list[float], ours: list[float]) -> str:
    """Say what the usual way costs: ms a clip, and how many times ours on the same clip."""
    ratio = statistics.median(u / o for u, o in zip(usual, ours, strict=True))
    return f"{statistics.median(usual) * 1e3:6.1f} ({ratio:.1f}x)"


@contextmanager
def watched() -> Iterator[dict[str, list[float]]]:
    """Count the CPU time of each stage, s."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(stage: str, original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            before = time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                spent[stage].append(time.thread_time() - before)

        return call

    patches = [mock.patch.object(m, f, timed(stage, getattr(m, f))) for stage, (m, f) in STAGES.items()]
    for patch in patches:
        patch.start()
    try:
        yield spent
    finally:
        for patch in patches:
            patch.stop()


def machine() -> str:
    """Name the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {cores()} cores, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(limits=1):
        opened = dataset(Path(temporary))
        everything = rows(opened)
        some = everything[:: max(1, len(everything) // CLIPS)][:CLIPS]
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"{machine()}, {load}; {'ESC-10' if os.environ.get('ESC10_DIR') else 'synthetic clips'}\n")
        for name in ("framed (paper)", "bare"):
            started, before = time.perf_counter(), time.process_time()
            made = in_parallel(
                everything, lambda clip, r=RECIPES[name]: r.draw(opened, clip), lambda done, total, what: None
            )
            wall, used = time.perf_counter() - started, time.process_time() - before
            size = sum(len(p.bytes) for p in made) / len(made) / 1024
            cold = " from a cold start" if name.startswith("framed") else ""
            print(f"{len(made)} pictures, {name}{cold}: {wall:.2f} s wall, {used:.2f} s CPU, {size:.0f} KiB each")
        print(f"\nCPU ms a clip, median of {len(some)} clips")
        for name, recipe in RECIPES.items():
            ways = [lambda clip, r=recipe, t=tight: usual(opened.root / clip["file"], r, t) for tight in (False, True)]
            ours, best, tight = cpu(some, lambda clip, r=recipe: r.draw(opened, clip), *ways)
            print(
                f"{name:22} ours {statistics.median(ours) * 1e3:6.1f}   usual, at its best {compared(best, ours)}"
                f"   as mostly written {compared(tight, ours)}"
            )
            with watched() as spent:
                cpu(some, lambda clip, r=recipe: r.draw(opened, clip))
            print("   " + ", ".join(f"{stage} {statistics.median(v) * 1e3:.2f}" for stage, v in spent.items()))
        bare = RECIPES["bare"]
        images = [Image.open(io.BytesIO(bare.draw(opened, clip).bytes)) for clip in some]
        clips = [{"image": image, "numbers": np.asarray(image)} for image in images]
        own, pillow = cpu(
            clips,
            lambda clip: picture.encoded(clip["numbers"], bare),
            lambda clip: clip["image"].save(io.BytesIO(), "PNG", compress_level=1),
        )
        print(
            f"\nPNG of the bare picture: here {statistics.median(own) * 1e3:.2f} ms, Pillow at level 1 {compared(pillow, own)}"
        )


if __name__ == "__main__":
    main()
