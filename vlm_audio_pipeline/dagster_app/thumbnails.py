"""Thumbnails of the images that a step made or sent, for the rows of its preview."""

import base64
import io
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node

THUMBNAIL_SIDE = 56  # pixels
_TABLES = ("spectrograms", "examples", "responses")


def markdown_image(image: bytes, title: str, max_side: int | None = None, quality: int = 70) -> str:
    """Return an image as Markdown that contains its data, as WebP, which is small: Dagster stores each event of a run several times.

    Args:
        image: bytes of an image file.
        title: text that is shown where the image is not.
        max_side: longest side of the result, pixels; None: unchanged.
        quality: quality of the WebP, 0 to 100.
    """
    from PIL import Image

    with Image.open(io.BytesIO(image)) as decoded:
        rgb_image = decoded.convert("RGB")
    if max_side is not None:
        rgb_image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    rgb_image.save(file, "WEBP", quality=quality, method=4)
    return f"![{title}](data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()})"


def thumbnails(graph: Graph, node: Node, name: str, table: pa.Table) -> list[str]:
    """Return a Markdown thumbnail for each row, "" under a control; [] for a table that is not made from images.

    Args:
        graph: the study.
        node: the node that made the table.
        name: name of the table.
        table: a few of its rows.
    """
    if name not in _TABLES:
        return []
    if "image" in table.column_names:
        images: Mapping[str, bytes] = dict(zip(table["clip"].to_pylist(), table["image"].to_pylist(), strict=True))
    else:
        images = _stored_images(graph, node, set(table["clip"].to_pylist()))
    if not images:
        return []
    markdown_of_clip = {clip: markdown_image(image, "image", THUMBNAIL_SIDE, 50) for clip, image in images.items()}
    controls = table["control"].to_pylist() if "control" in table.column_names else ["none"] * table.num_rows
    return [
        markdown_of_clip.get(clip, "") if control == "none" else ""
        for clip, control in zip(table["clip"].to_pylist(), controls, strict=True)
    ]


def _stored_images(graph: Graph, node: Node, clips: set[str]) -> Mapping[str, bytes]:
    """Read the images of some clips in the rendering without control that a step reads."""
    keys = (i.key for i in graph.steps[node.step].stage.inputs)
    step = next((k for k in keys if k.startswith("spectrograms/") and CONTROL_SEPARATOR not in k), None)
    if step is None:
        return {}
    folds = {clip.fold for clip in graph.dataset().clips if clip.id in clips}
    return {clip: image for fold in sorted(folds) for clip, image in _read_images(graph, Node(step, fold), clips)}


def _read_images(graph: Graph, node: Node, clips: set[str]) -> Iterable[tuple[str, bytes]]:
    path = graph.partition_files(node)["spectrograms"]
    if not path.exists():
        return
    rows = pq.read_table(path, columns=["clip", "image"], filters=pc.field("clip").isin(sorted(clips)))
    yield from zip(rows["clip"].to_pylist(), rows["image"].to_pylist(), strict=True)
