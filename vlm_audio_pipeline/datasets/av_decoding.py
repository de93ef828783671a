"""Decode recordings in MP4, Matroska, WebM and ASF (WMA) with PyAV, the optional extra `av` (FFmpeg).

FFmpeg decodes a truncated file without an error, so the duration that the container declares is compared with the samples.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.datasets.audio_suffixes import has_av
from vlm_audio_pipeline.datasets.length_limit import too_long_reason

if TYPE_CHECKING:
    import numpy as np

CONTAINERS = ("MP4", "Matroska", "ASF")
"""Names of the containers (`containers.py`) that are decoded here."""

_FRAME = 2048  # samples; codecs fill their last frame


class NotDecoded(Exception):
    """A recording that is not decoded; the message is the reason."""


def decode_with_av(path: Path) -> tuple["np.ndarray", int]:
    """Decode a whole recording at its own sample rate.

    Returns:
        The samples (n, channels) float32, 1 = full scale; the sample rate, Hz.

    Raises:
        NotDecoded: without the extra `av`, and for a file without audio, with several audio streams, of unknown length,
            truncated or damaged.
    """
    if not has_av():
        raise NotDecoded(
            "undecodable: it needs the extra `av` (pip install 'vlm-audio-pipeline[av]'), or convert it to WAV or FLAC"
        )
    import av
    import numpy as np

    try:
        with av.open(str(path)) as container:
            streams = container.streams.audio
            if not streams:
                raise NotDecoded("no samples: the file has no audio stream")
            if len(streams) > 1:
                raise NotDecoded(f"several recordings: the file has {len(streams)} audio streams; extract one")
            stream = streams[0]
            rate, declared_s = int(stream.codec_context.sample_rate), _declared_seconds(container, stream)
            channels = int(stream.codec_context.channels)
            if reason := too_long_reason(int((declared_s or 0) * rate), rate, channels):
                raise NotDecoded(reason)
            blocks = _decode_blocks(av, container, stream)
    except av.FFmpegError as error:
        raise NotDecoded(f"undecodable: {error.strerror}; convert it to WAV or FLAC") from error
    except (ValueError, OverflowError, MemoryError) as error:  # impossible values in a header
        raise NotDecoded(f"undecodable: {error}; convert it to WAV or FLAC") from error
    if not blocks:
        raise NotDecoded("no samples: the file has a header only")
    if declared_s is None:
        raise NotDecoded("of unknown length: the file does not state its duration; convert it to FLAC")
    samples = np.ascontiguousarray(np.concatenate(blocks, axis=1).T)
    if len(samples) / rate < declared_s - 2 * _FRAME / rate:
        raise NotDecoded(f"truncated: {len(samples) / rate:.3f} of {declared_s:.3f} s could be decoded")
    return samples, rate


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """Return the shorter duration of the stream and the file, which may leave out samples at the edges, s."""
    stream_s = [float(stream.duration * stream.time_base)] if stream.duration else []
    file_s = [container.duration / 1e6] if container.duration else []
    return min(stream_s + file_s, default=None)


def _decode_blocks(av: Any, container: Any, stream: Any) -> list["np.ndarray"]:
    resampler = av.AudioResampler(format="fltp")  # the sample rate and the channels stay
    blocks: list[np.ndarray] = []
    frames = 0
    for frame in container.decode(stream):
        new_blocks = [block.to_ndarray() for block in resampler.resample(frame)]
        frames += sum(block.shape[-1] for block in new_blocks)
        if new_blocks and (reason := too_long_reason(frames, frame.sample_rate, len(new_blocks[0]))):
            raise NotDecoded(reason)  # more than the container declares
        blocks += new_blocks
    return blocks + [block.to_ndarray() for block in resampler.resample(None) if blocks]
