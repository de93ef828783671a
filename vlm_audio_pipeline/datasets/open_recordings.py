"""Recordings that stay open while their segments are read, so that each is decoded once for all its segments.

Codecs such as MP3 and Opus decode other samples after seeking, so a segment of such a recording is decoded from the beginning. An open
recording goes on where it stopped, and keeps what it decoded last, because threads ask for segments only roughly in order. Memory is
bounded, whatever the length of the recordings. Belongs here: which samples are decoded and kept. Does not belong here: checks of the
file, and errors (`audio.py`).
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    import numpy as np
    import soundfile

_BLOCK_FRAMES = 65_536
_MAX_OPEN = 16
_SAMPLES_PER_CORE = 2**22  # 16 MB of float32


class OpenRecording(Protocol):
    """A recording from which segments are read.

    Attributes:
        frames: its length.
        sample_rate_hz: its sample rate, Hz.
        channels: number of channels.
        kept_samples: samples in memory, of all channels.
    """

    frames: int
    sample_rate_hz: int
    channels: int
    kept_samples: int

    def read(self, first: int, stop: int) -> "np.ndarray":
        """Return the frames from `first` to `stop`: (frames, channels) float32; fewer if the decoder ends before."""
        ...

    def read_whole(self) -> "np.ndarray":
        """Return all frames of a recording from which nothing was read yet."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class DecodedRecording:
    """A recording that was decoded as a whole."""

    def __init__(self, samples: "np.ndarray", sample_rate_hz: int):
        self._samples = samples
        self.frames, self.channels, self.sample_rate_hz = len(samples), samples.shape[1], sample_rate_hz
        self.kept_samples = samples.size

    def read(self, first: int, stop: int) -> "np.ndarray":
        """Return frames; see `OpenRecording`."""
        return self._samples[first:stop]

    def read_whole(self) -> "np.ndarray":
        """Return all frames."""
        return self._samples

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class OpenSound:
    """A file that libsndfile decodes.

    Attributes:
        sound: the decoder.
        file: the file that it reads.
    """

    sound: "soundfile.SoundFile"
    file: BinaryIO

    def read(self, frames: int) -> "np.ndarray":
        """Decode the next frames: (frames, channels) float32; fewer at the end."""
        samples: np.ndarray = self.sound.read(frames, dtype="float32", always_2d=True)
        return samples

    def close(self) -> None:
        """Close the decoder and the file."""
        self.sound.close()
        self.file.close()


@cache
def sound_file_class() -> "type[soundfile.SoundFile]":
    """Return a class of sound files that seek only when the caller calls `seek`.

    soundfile itself seeks to the current position after each read. After that, Vorbis decodes other samples, and MP3 loses the bits that
    its frames have in earlier frames.
    """
    import soundfile

    class SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
        def seekable(self) -> bool:
            return False

    return SoundFile


class SeekableRecording:
    """A recording whose codec decodes the same samples after seeking: nothing needs to be kept.

    Args:
        opened: the open file; `close` closes it.
        frames: its length, which may be less than libsndfile reads.
    """

    kept_samples = 0

    def __init__(self, opened: OpenSound, frames: int):
        self._opened = opened
        self.frames, self.channels = frames, int(opened.sound.channels)
        self.sample_rate_hz = int(opened.sound.samplerate)

    def read(self, first: int, stop: int) -> "np.ndarray":
        """Return frames; see `OpenRecording`."""
        self._opened.sound.seek(first)
        return self._opened.read(stop - first)

    def read_whole(self) -> "np.ndarray":
        """Return all frames."""
        return self.read(0, self.frames)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


class SequentialRecording:
    """A recording that must be decoded from the beginning.

    Args:
        opened: the open file, at its beginning; `close` closes it.
        open_again: opens the file again.
        frames: its length.
        max_kept_samples: samples to keep behind the segment that is being read.
    """

    def __init__(self, opened: OpenSound, open_again: Callable[[], OpenSound], frames: int, max_kept_samples: int):
        self._opened, self._open_again, self._max_kept_samples = opened, open_again, max_kept_samples
        self.frames, self.channels = frames, int(self._opened.sound.channels)
        self.sample_rate_hz = int(self._opened.sound.samplerate)
        self._blocks: deque[np.ndarray] = deque()
        self._first, self._position = 0, 0  # frames: the first one that is kept, and the next one to decode
        self.kept_samples = 0

    def read(self, first: int, stop: int) -> "np.ndarray":
        """Return frames; see `OpenRecording`."""
        import numpy as np

        if first < self._first:
            self._begin_again()
        while self._position < stop and self._decode_block():
            self._forget_until(first)
        parts, offset = [], self._first
        for block in self._blocks:
            if offset + len(block) > first and offset < stop:
                parts.append(block[max(0, first - offset) : stop - offset])
            offset += len(block)
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def read_whole(self) -> "np.ndarray":
        """Return all frames, without keeping them."""
        return self._opened.read(self.frames)

    def close(self) -> None:
        """Close the file, and forget what was decoded."""
        self._opened.close()
        self._blocks.clear()
        self.kept_samples = 0

    def _begin_again(self) -> None:
        self.close()
        self._opened = self._open_again()
        self._first = self._position = 0

    def _decode_block(self) -> bool:
        """Decode one more block; return whether there was one."""
        count = min(_BLOCK_FRAMES, self.frames - self._position)
        if count <= 0:
            return False
        block = self._opened.read(count)
        if not len(block):
            return False
        self._blocks.append(block)
        self._position += len(block)
        self.kept_samples += block.size
        return True

    def _forget_until(self, first: int) -> None:
        """Forget the oldest blocks that the current segment does not need, if more is kept than allowed."""
        while self.kept_samples > self._max_kept_samples and self._first + len(self._blocks[0]) <= first:
            block = self._blocks.popleft()
            self._first += len(block)
            self.kept_samples -= block.size


class _Entry:
    """An open recording in the pool; used while its lock is held."""

    def __init__(self, stamp: tuple[int, ...]):
        self.stamp = stamp
        self.lock = threading.Lock()
        self.recording: OpenRecording | None = None
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        if self.recording is not None:
            self.recording.close()


class RecordingPool:
    """The recordings that are open in this process. A file that changed is opened again; the one that was not used longest is closed.

    Args:
        max_open: number of open files.
        max_kept_samples: samples of all recordings in memory; by default 16 MB for each core, of at least 8 cores.
    """

    def __init__(self, max_open: int = _MAX_OPEN, max_kept_samples: int | None = None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.max_kept_samples = max_kept_samples or _SAMPLES_PER_CORE * max(8, cores)
        self._max_open = max_open
        self._lock = threading.Lock()
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()

    @contextmanager
    def borrow(self, path: Path, open_recording: Callable[[Path], OpenRecording]) -> Iterator[OpenRecording]:
        """Hold an open recording; other threads wait.

        Args:
            path: the recording.
            open_recording: opens it.

        Raises:
            OSError: if the file does not exist.
            Every exception of `open_recording`.
        """
        status = os.stat(path)
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        while True:
            entry = self._find(path, stamp)
            with entry.lock:
                if entry.is_closed:  # another thread made room before this one held the lock
                    continue
                try:
                    if entry.recording is None:
                        entry.recording = open_recording(path)
                    yield entry.recording
                except BaseException:
                    entry.close()  # a decoder may be anywhere after an error
                    raise
                finally:
                    self._make_room(path)
                return

    def close(self) -> None:
        """Close every recording that no thread uses."""
        with self._lock:
            for path in list(self._entries):
                self._close(path)

    def _find(self, path: Path, stamp: tuple[int, ...]) -> _Entry:
        with self._lock:
            entry = self._entries.get(path)
            if entry is None or entry.stamp != stamp or entry.is_closed:
                if entry is not None:
                    self._close(path)
                entry = self._entries[path] = _Entry(stamp)
            self._entries.move_to_end(path)
            return entry

    def _make_room(self, current: Path) -> None:
        """Close the recordings that were not used longest, until the limits are met."""
        with self._lock:
            for path in list(self._entries):
                kept = sum(e.recording.kept_samples for e in self._entries.values() if e.recording is not None)
                if len(self._entries) <= self._max_open and kept <= self.max_kept_samples:
                    return
                if path != current or self._entries[path].is_closed:
                    self._close(path)

    def _close(self, path: Path) -> None:
        """Close a recording, unless a thread uses it. The pool's lock must be held."""
        entry = self._entries[path]
        if entry.lock.acquire(blocking=False):
            try:
                entry.close()
                del self._entries[path]
            finally:
                entry.lock.release()
