"""Folders in the layouts that Hugging Face `datasets` writes, made with pyarrow.

They are equal to those of `datasets` 3.6 and 5.2: the same files, the Arrow stream format, the features in the metadata of the
schema and in `dataset_info.json` (https://huggingface.co/docs/datasets/about_arrow).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

AUDIO = {"sampling_rate": None, "_type": "Audio"}
CLASSES = {"names": ["rain", "dog"], "_type": "ClassLabel"}
AUDIO_AND_LABEL = {"audio": AUDIO, "label": CLASSES}


def save_to_disk(folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any], shards: int = 1) -> None:
    """Write a folder as `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    for i, name in enumerate(names):
        table = hub_table(rows[i::shards], features)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0" * 16, "_split": None}
    state |= {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False}
    (folder / "state.json").write_text(json.dumps(state))
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def save_dict_to_disk(
    folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]], features: Mapping[str, Any]
) -> None:
    """Write a folder as `DatasetDict.save_to_disk` does."""
    for split, rows in splits.items():
        save_to_disk(folder / split, rows, features)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def hub_table(rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any]) -> pa.Table:
    """Return rows with the Arrow types and the metadata of the features."""
    schema = pa.schema([(name, _arrow_type(feature)) for name, feature in features.items()])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return pa.Table.from_pylist(list(rows), schema)


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any]) -> None:
    """Write a file as `Dataset.to_parquet` and `push_to_hub` do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(hub_table(rows, features), path)


def _arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    match feature["_type"]:
        case "Audio":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        case "ClassLabel":
            return pa.int64()
        case "List" | "Sequence":
            return pa.list_(_arrow_type(feature["feature"]))
    return pa.type_for_alias(feature["dtype"])
