"""PNG files that Pillow decodes and whose data zlib compresses to the same bytes."""

import io
import struct
import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm_audio_pipeline.renderings.png import encode_palette, encode_rgb

PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)


@st.composite
def images(draw):
    """Generate images with cells of several pixels, as in spectrograms, or noise."""
    cells = np.random.default_rng(draw(st.integers(0, 2**32))).integers(
        0, draw(st.integers(1, 256)), (40, 30), np.uint8
    )
    return np.repeat(np.repeat(cells, draw(st.integers(1, 4)), 0), draw(st.integers(1, 7)), 1)


def compressed(png):
    """Return the data of the only IDAT chunk."""
    at = png.index(b"IDAT")
    return png[at + 4 : at + 4 + struct.unpack(">I", png[at - 4 : at])[0]]


@settings(deadline=None, max_examples=40)
@given(images())
def test_pillow_decodes_the_image_and_zlib_gives_the_same_bytes(pixels):
    for png, expected in (
        (encode_palette(pixels, PALETTE), PALETTE[pixels]),
        (encode_rgb(PALETTE[pixels]), PALETTE[pixels]),
    ):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), expected)
        packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        assert packer.compress(zlib.decompress(compressed(png))) + packer.flush() == compressed(png)
