"""Measure the overhead of the pipeline for CLAP of real size: the embeddings stage against a bare loop over decoded clips.

The weights are random (their values do not change the time). Both sides use the same loaded model, feature extractor and
batch size. The bare loop has its clips decoded and resampled in memory. The stage reads WAV files, resamples them, hashes
keys and stores rows while the model computes. The rounds of both sides alternate, so that other load on the machine affects
both, and the fastest rounds are compared. The CPU time is printed beside the wall time.

    python benchmarks/encoders.py [--clips 32] [--rounds 5] [--batch 16] [--device cpu]
"""

import argparse
import importlib.metadata
import os
import platform
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import soundfile

from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.audio import decode, resample, samples_digest
from vlm_audio_pipeline.datasets.base import ClipRow
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.engines import LocalEngine, core_count
from vlm_audio_pipeline.storage.result_store import ResultStore

MAX_RATIO = 1.15
SECONDS, FILE_RATE = 5, 44100


def checkpoint(folder: Path) -> None:
    """Write a CLAP with the configuration of laion/clap-htsat-unfused and random weights."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    ClapModel(ClapConfig()).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)


def recordings(folder: Path, n: int) -> list[Path]:
    """Write clips of noise, 5 s at 44.1 kHz as in ESC-50."""
    paths = [folder / f"{i}.wav" for i in range(n)]
    for i, path in enumerate(paths):
        noise = np.random.default_rng(i).standard_normal(SECONDS * FILE_RATE) * 0.1
        soundfile.write(path, noise, FILE_RATE, subtype="PCM_16")
    return paths


def table(paths: list[Path]) -> pa.Table:
    """Return the `clips` rows that the stage reads."""
    n = len(paths)
    return pa.table(
        {
            "clip": [p.stem for p in paths],
            "file": [str(p) for p in paths],
            "start_s": pa.nulls(n, pa.float64()),
            "end_s": pa.nulls(n, pa.float64()),
            "samples_sha256": [p.stem for p in paths],
            "duration_s": [float(SECONDS)] * n,
            "sample_rate_hz": [decode(p)[1] for p in paths],
        }
    )


def clock() -> tuple[float, float]:
    """Return the wall time and the CPU time of this process, s."""
    return time.perf_counter(), time.process_time()


def seconds_since(started: tuple[float, float]) -> tuple[float, float]:
    """Return the elapsed wall and CPU time, s."""
    now = clock()
    return now[0] - started[0], now[1] - started[1]


def main() -> None:
    """Measure and print; exit with 1 if the pipeline takes more than `MAX_RATIO` times the bare loop."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--clips", type=int, default=32)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--smallest", action="store_true", help="only show that the benchmark still works")
    arguments = options.parse_args()
    if arguments.smallest:
        arguments.clips, arguments.rounds, arguments.batch = 4, 1, 2

    import torch
    from transformers import ClapFeatureExtractor, ClapModel

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "clap").mkdir()
        checkpoint(folder / "clap")
        paths = recordings(folder, arguments.clips)
        spec = Clap(model=str(folder / "clap"), batch_size=arguments.batch, device=arguments.device, dtype="float32")
        model = ClapModel.from_pretrained(folder / "clap").to(arguments.device).eval()
        extractor = ClapFeatureExtractor.from_pretrained(folder / "clap")
        decoded = [resample(*decode(p)[:2], spec.sample_rate_hz) for p in paths]
        clips, encode = table(paths), spec.load()

        def bare() -> np.ndarray:
            vectors = []
            with torch.inference_mode():
                for at in range(0, len(decoded), arguments.batch):
                    inputs = extractor(
                        decoded[at : at + arguments.batch], sampling_rate=spec.sample_rate_hz, return_tensors="pt"
                    )
                    out = model.get_audio_features(**inputs.to(arguments.device)).pooler_output
                    vectors.append(out.cpu().numpy())
            return np.concatenate(vectors)

        def read_samples(clip: ClipRow, sample_rate_hz: int) -> np.ndarray:
            samples, own, _ = decode(Path(clip.file), clip.start_s, clip.end_s)
            samples_digest(samples, own)  # as in the pipeline, to detect a changed recording
            return resample(samples, own, sample_rate_hz)

        reader = SimpleNamespace(samples=read_samples, content_sha256=lambda clip: clip.samples_sha256)

        def pipeline(rows: ResultStore) -> np.ndarray:
            context = StageContext(
                "bench", "clap", 1, (), {"clips": clips}, SimpleNamespace(recordings=reader), rows, engine=LocalEngine()
            )
            with patch.object(Clap, "load", lambda _: encode):  # loaded once, as in the bare loop
                embeddings = spec.stages("clap")[0].run(context)["embeddings"]
            return np.stack([np.array(v, np.float32) for v in embeddings["vector"].to_pylist()])

        bare()  # warm up
        times: dict[str, list[tuple[float, float]]] = {"bare": [], "pipeline": []}
        for i in range(arguments.rounds):
            started = clock()
            expected = bare()
            times["bare"].append(seconds_since(started))
            rows = ResultStore(folder / f"{i}.sqlite")
            started = clock()
            vectors = pipeline(rows)
            times["pipeline"].append(seconds_since(started))
            rows.close()
            np.testing.assert_allclose(vectors, expected, atol=1e-5)

        started = time.perf_counter()
        for row in clips.to_pylist():
            read_samples(ClipRow.from_row(row), spec.sample_rate_hz)
        decoding = time.perf_counter() - started

    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"machine: {machine}, {core_count()} cores of {os.cpu_count()}, {torch.get_num_threads()} torch threads, {platform.system()}"
    )
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {importlib.metadata.version('transformers')}"
    )
    print(
        f"CLAP, {size:.0f} M parameters, random, float32; {arguments.clips} clips of {SECONDS} s, batches of {arguments.batch}"
    )
    for name, rounds in times.items():
        wall, cpu = min(w for w, _ in rounds), min(b for _, b in rounds)
        slowest = max(w for w, _ in rounds)
        print(
            f"{name:9}{wall:7.2f} s (to {slowest:.2f} s), {1000 * wall / arguments.clips:.1f} ms per clip; {cpu:.2f} s of CPU time"
        )
    print(f"decoding alone {decoding:7.2f} s; the pipeline decodes while the model computes")
    ratio, cpu_ratio = (min(t[i] for t in times["pipeline"]) / min(t[i] for t in times["bare"]) for i in (0, 1))
    print(
        f"pipeline / bare = {ratio:.3f} (CPU time {cpu_ratio:.3f}); fastest of {arguments.rounds} rounds; target: at most {MAX_RATIO}"
    )
    raise SystemExit(int(ratio > MAX_RATIO and not arguments.smallest))


if __name__ == "__main__":
    main()
