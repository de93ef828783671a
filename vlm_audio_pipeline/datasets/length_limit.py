"""Limits of what is decoded at once. A small file can have many hours of silence."""

MAX_SAMPLES = 2**27
"""Largest number of samples of a clip, of all channels: 0.5 GB as float32, 46 minutes of mono at 48 kHz."""
MAX_BYTES_AT_ONCE = 1_000_000_000
"""Largest file that is read into memory as a whole."""


def too_long_reason(frames: int, rate: int, channels: int) -> str | None:
    """Return why a recording of this length is too long to decode, or None. Call it before decoding."""
    if frames * channels <= MAX_SAMPLES:
        return None
    return (
        f"too long: {frames / max(rate, 1):,.0f} s at {rate} Hz with {channels} channels are {frames * channels:,} samples, at most "
        f"{MAX_SAMPLES:,} are decoded at once; cut it into shorter recordings, or give the start and the end of "
        "segments in the listing"
    )
