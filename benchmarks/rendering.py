"""Measure the time of an image: this project against the usual code (librosa.load, specshow, savefig) on the same clips.

Measures the CPU time per clip of one thread, alternating between both programs on each clip, and the wall time of all images
on all cores from a cold start. Uses ESC-10 where ESC10_DIR is set, otherwise synthetic clips. The usual code is measured
twice: with its fastest settings (axes placed by hand, one BLAS thread, warm caches) and with usual settings (tight_layout, or a
tight bounding box if there is no frame).
"""

import argparse
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

from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.datasets import audio
from vlm_audio_pipeline.datasets.base import DATASETS, ClipRow, Dataset
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.engines import core_count, map_ordered
from vlm_audio_pipeline.renderings import image
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import render_clip
from vlm_audio_pipeline.storage.data_folder import DataFolder

RECIPES = {
    "bare": Recipe(preset="plain", size=None, width=640, height=480),
    "bare 384 (plain)": Recipe(preset="plain"),
    "bare 1000 x 400": Recipe(preset="plain", size=None, width=1000, height=400),
    "framed (paper)": Recipe(preset="paper"),
    "framed, colorbar": Recipe(preset="paper_colorbar"),
    "bare mel 1000 x 400": Recipe(transform="mel", width=1000, height=400),
}
PARTS: dict[str, tuple[object, str]] = {
    "decode": (audio, "decode"),
    "resample": (audio, "resample"),
    "transform": (image, "compute_spectrum"),
    "limits": (image, "color_limits"),
    "decibels, quantise, spread": (image, "_data_levels"),
    "frame": (image, "draw_frame"),
    "PNG": (image, "encode_image"),
}


def open_dataset(folder: Path, clips: int) -> Dataset:
    """Open ESC-10, or synthesise clips."""
    data_folder = DataFolder(folder / "data")
    if os.environ.get("ESC10_DIR"):
        return DATASETS.get("esc10")(path=os.environ["ESC10_DIR"]).open(data_folder)
    return SyntheticDataset(clips=clips).open(data_folder)


def clip_rows(dataset: Dataset, max_clips: int) -> list[ClipRow]:
    """Return typed rows of evenly spaced clips."""
    rows = []
    for clip in dataset.clips[:: max(1, len(dataset.clips) // max_clips)][:max_clips]:
        samples, rate, _ = audio.decode(dataset.root / clip.file, clip.start_s, clip.end_s)
        digest = audio.samples_digest(samples, rate)
        rows.append(ClipRow(clip.id, clip.file, clip.start_s, clip.end_s, digest, len(samples) / rate, rate))
    return rows


def render_with_librosa(path: Path, recipe: Recipe, tight: bool) -> bytes:
    """Render a clip with librosa and matplotlib; `tight` fits the image to its content."""
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


def cpu_times(inputs: list, *functions: Callable[[object], object], repeats: int = 3) -> list[list[float]]:
    """Measure the CPU time of each function for each input, s, in turn, because a machine's speed varies.

    The first function is run `repeats` times in a row per input, as in a study, and its median counts. The others are
    slow enough to be measured by one run.
    """
    for function in functions:
        function(inputs[0])  # fill caches
    seconds: list[list[float]] = [[] for _ in functions]
    for item in inputs:
        for number, function in enumerate(functions):
            times = []
            for _ in range(1 if number else repeats):
                start = time.process_time()
                function(item)
                times.append(time.process_time() - start)
            seconds[number].append(statistics.median(times))
    return seconds


def comparison(usual: list[float], ours: list[float]) -> str:
    """Return the cost of the usual code: ms per clip, and the ratio to ours on the same clip."""
    ratio = statistics.median(u / o for u, o in zip(usual, ours, strict=True))
    return f"{statistics.median(usual) * 1e3:6.1f} ({ratio:.1f}x)"


@contextmanager
def measure_parts() -> Iterator[dict[str, list[float]]]:
    """Measure the CPU time of each part, s."""
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(part: str, original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            start = time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                seconds[part].append(time.thread_time() - start)

        return call

    patches = [mock.patch.object(m, f, timed(part, getattr(m, f))) for part, (m, f) in PARTS.items()]
    for patch in patches:
        patch.start()
    try:
        yield seconds
    finally:
        for patch in patches:
            patch.stop()


def machine() -> str:
    """Return the name of the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {core_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--clips", type=int, default=40, help="clips whose CPU time is measured")
    options.add_argument("--images", type=int, default=400, help="images rendered on all cores")
    options.add_argument("--smallest", action="store_true", help="only show that the benchmark still works")
    arguments = options.parse_args()
    if arguments.smallest:
        arguments.clips, arguments.images = 2, 40

    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(limits=1):
        dataset = open_dataset(Path(temporary), arguments.images)
        rows = clip_rows(dataset, arguments.images)
        clips = rows[:: max(1, len(rows) // arguments.clips)][: arguments.clips]
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"{machine()}, {load}; {'ESC-10' if os.environ.get('ESC10_DIR') else 'synthetic clips'}\n")
        for name in ("framed (paper)", "bare"):
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            images = map_ordered(lambda clip, r=RECIPES[name]: render_clip(dataset, clip, r), rows, no_progress)
            wall, cpu = time.perf_counter() - wall_start, time.process_time() - cpu_start
            size = sum(len(i.bytes) for i in images) / len(images) / 1024
            cold = " from a cold start" if name.startswith("framed") else ""
            print(f"{len(images)} images, {name}{cold}: {wall:.2f} s wall, {cpu:.2f} s CPU, {size:.0f} KiB each")
        print(f"\nCPU ms per clip, median of {len(clips)} clips")
        for name, recipe in RECIPES.items():
            usual = [
                lambda clip, r=recipe, t=tight: render_with_librosa(dataset.root / clip.file, r, t)
                for tight in (False, True)
            ]
            ours, fastest, usual_settings = cpu_times(
                clips, lambda clip, r=recipe: render_clip(dataset, clip, r), *usual
            )
            print(
                f"{name:22} ours {statistics.median(ours) * 1e3:6.1f}   usual, fastest settings {comparison(fastest, ours)}"
                f"   usual settings {comparison(usual_settings, ours)}"
            )
            with measure_parts() as seconds:
                cpu_times(clips, lambda clip, r=recipe: render_clip(dataset, clip, r))
            print("   " + ", ".join(f"{part} {statistics.median(v) * 1e3:.2f}" for part, v in seconds.items()))
        bare = RECIPES["bare"]
        images = [Image.open(io.BytesIO(render_clip(dataset, clip, bare).bytes)) for clip in clips]
        ours, pillow = cpu_times(
            [(image, np.asarray(image)) for image in images],
            lambda pair: image.encode_image(pair[1], bare),
            lambda pair: pair[0].save(io.BytesIO(), "PNG", compress_level=1),
        )
        print(
            f"\nPNG of the bare image: ours {statistics.median(ours) * 1e3:.2f} ms, "
            f"Pillow at level 1 {comparison(pillow, ours)}"
        )


if __name__ == "__main__":
    main()
