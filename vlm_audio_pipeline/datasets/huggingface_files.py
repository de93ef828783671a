"""Read a folder of Hugging Face `datasets` with pyarrow alone: what `save_to_disk` writes, and parquet files as on the hub.

Belongs here: which files a folder has, their splits, features and columns. Does not belong here: clips, folds and recordings
(`huggingface_folder`).

Layouts (https://huggingface.co/docs/datasets/about_arrow and https://huggingface.co/docs/datasets/repository_structure):

- `save_to_disk` of a DatasetDict: `dataset_dict.json` names the splits, and each is a folder with `state.json`, which names the
  files, `dataset_info.json` and `data-*.arrow` (the Arrow stream format). A Dataset is one such folder.
- a clone of a repository: parquet files. The front matter of `README.md` names those of each configuration and split;
  otherwise they are `data/<split>-00000-of-00001.parquet`, or lie beside `README.md`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion

DICT_FILE, STATE_FILE, INFO_FILE = "dataset_dict.json", "state.json", "dataset_info.json"
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_MAX_TEXT = 20_000_000  # bytes of a JSON file or a card
_ROWS_AT_ONCE = 16
_SPLIT_ORDER = {"train": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "eval": 2}
"""Usual splits in their usual order, which the names of files do not have."""


@dataclass(frozen=True)
class DataFile:
    """One file of rows.

    Attributes:
        path: the file.
        split: name of its split.
    """

    path: Path
    split: str

    @contextmanager
    def _open(self) -> Iterator[tuple[pa.Schema, Any]]:
        """Open the file: its schema, and a function from names of columns to batches of rows."""
        try:
            if self.path.suffix == ".parquet":
                with pq.ParquetFile(self.path) as file:
                    _read_names(file.schema_arrow)
                    yield file.schema_arrow, lambda names: file.iter_batches(_ROWS_AT_ONCE, columns=list(names))
                return
            with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
                _read_names(stream.schema)
                yield stream.schema, lambda names: (batch.select(list(names)) for batch in stream)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BadDataset(f"{self.path} cannot be read: {error}; copy it again") from error

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, without reading rows.

        Raises:
            BadDataset: for a file that cannot be read.
        """
        with self._open() as (schema, _):
            return schema

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows in their order; a file is never in memory as a whole.

        Args:
            columns: names of columns, or `audio.path`, which leaves out `audio.bytes`.

        Raises:
            BadDataset: for a file that cannot be read.
        """
        needed = list(dict.fromkeys(name.partition(".")[0] for name in columns))
        with self._open() as (schema, batches):
            if missing := [name for name in needed if name not in schema.names]:
                raise BadDataset(
                    f"{self.path} has no column '{missing[0]}', which other files of the dataset have; copy it again"
                )
            for batch in batches(needed if self._is_arrow else columns):
                batch.validate(full=True)  # without it, values of a damaged file could be read outside of the file
                arrays = {name: _leaf(batch, name) for name in columns}
                for i in range(batch.num_rows):
                    yield {name: array[i].as_py() for name, array in arrays.items()}

    @property
    def _is_arrow(self) -> bool:
        return self.path.suffix != ".parquet"


def _read_names(fields: Any) -> None:
    """Read all names of columns and of their fields, so that damaged ones raise UnicodeDecodeError here."""
    for field in fields:
        if field.name and pa.types.is_struct(field.type):
            _read_names(field.type)


def _leaf(batch: pa.RecordBatch, name: str) -> Any:
    column, _, field = name.partition(".")
    array = batch.column(column)
    if not field:
        return array
    return pa.compute.struct_field(array, field)


def is_hub_folder(root: Path) -> bool:
    """Return whether a folder has one of the layouts."""
    if (root / DICT_FILE).is_file() or ((root / STATE_FILE).is_file() and (root / INFO_FILE).is_file()):
        return True
    return bool(_parquet_files(root))


def find_data_files(root: Path, config: str | None = None) -> list[DataFile]:
    """Return the files of a folder, split by split.

    Args:
        root: the folder.
        config: name of a configuration in `README.md`; None: the default one.

    Raises:
        BadDataset: for a folder without this layout, an unknown configuration, and files that are missing or outside of the folder.
    """
    if (root / DICT_FILE).is_file():
        splits = read_json(root / DICT_FILE).get("splits")
        if not isinstance(splits, list) or not splits:
            raise BadDataset(
                f"{root / DICT_FILE}: 'splits' must be a list of names, got {splits!r}; save the dataset again"
            )
        return [file for split in splits for file in _saved_files(_inside(root, str(split), DICT_FILE), str(split))]
    if (root / STATE_FILE).is_file():
        return _saved_files(root, None)
    configs = _read_configs(root)
    if configs:
        return _files_of_config(root, configs, config)
    if config is not None:
        raise BadDataset(f"{root} has no configurations, because README.md names none; remove `config`")
    files = [DataFile(path, _split_of_name(path)) for path in _parquet_files(root)]
    files.sort(key=lambda file: _SPLIT_ORDER.get(file.split, len(_SPLIT_ORDER)))
    if not files:
        raise BadDataset(
            f"{root} is no folder of Hugging Face datasets: it has neither {DICT_FILE}, {STATE_FILE} nor parquet files; correct `path`"
        )
    return files


def read_features(file: DataFile) -> dict[str, Any]:
    """Return the features of the columns as `datasets` writes them: column -> {"_type": "ClassLabel", "names": [...]}, ...

    They are in the metadata of the Arrow schema, otherwise in `dataset_info.json` beside the file. Columns without features have
    none here.

    Raises:
        BadDataset: for features that are not JSON.
    """
    metadata = (file.schema().metadata or {}).get(b"huggingface")
    values: Any = None
    if metadata is not None:
        try:
            values = json.loads(metadata)["info"]["features"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadDataset(
                f"{file.path}: the features in its schema cannot be read: {error!r}; save it again"
            ) from error
    elif (file.path.parent / INFO_FILE).is_file():
        values = read_json(file.path.parent / INFO_FILE).get("features")
    return values if isinstance(values, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadDataset: for a file that is none.
    """
    try:
        values = json.loads(_read_text(path))
    except ValueError as error:
        raise BadDataset(f"{path} is not JSON: {error}; save the dataset again") from error
    if not isinstance(values, dict):
        raise BadDataset(f"{path} must be a JSON object, got {type(values).__name__}; save the dataset again")
    return values


def read_front_matter(root: Path) -> Mapping[str, Any]:
    """Return the front matter of `README.md` (the card of a repository); {} without one.

    Raises:
        BadDataset: for a front matter that is not YAML.
    """
    path = root / "README.md"
    if not path.is_file():
        return {}
    match = re.match(r"---\r?\n(.*?)\r?\n---", _read_text(path), re.DOTALL)
    try:
        values = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        raise BadDataset(f"{path}: the front matter is not YAML: {error}; correct it") from error
    return values if isinstance(values, dict) else {}


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise BadDataset(f"{path} is too large: it has more than {_MAX_TEXT:,} bytes; correct `path`")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path} cannot be read: {error}; copy it again") from error


def _saved_files(folder: Path, split: str | None) -> list[DataFile]:
    """Return the files that `state.json` names."""
    state = read_json(folder / STATE_FILE)
    if state.get("_indices_data_files"):
        raise BadDataset(
            f"{folder} selects rows by an index, which is not read; call `flatten_indices()` before `save_to_disk`"
        )
    entries = state.get("_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise BadDataset(
            f"{folder / STATE_FILE}: '_data_files' must name files, got {entries!r}; save the dataset again"
        )
    name_of_split = split or state.get("_split") or "train"
    return [DataFile(_existing(_inside(folder, str(name), STATE_FILE)), str(name_of_split)) for name in names]


def _read_configs(root: Path) -> dict[str, list[Any]]:
    """Return the data files of each configuration in `README.md`, the default one first."""
    configs = read_front_matter(root).get("configs")
    entries = [c for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []
    entries.sort(key=lambda c: not c.get("default", c.get("config_name") == "default"))
    files = {str(c.get("config_name", "default")): c.get("data_files") for c in entries}
    return {
        name: value if isinstance(value, list) else [{"split": "train", "path": value}]
        for name, value in files.items()
        if value
    }


def _files_of_config(root: Path, configs: Mapping[str, list[Any]], config: str | None) -> list[DataFile]:
    name = next(iter(configs)) if config is None else config
    if name not in configs:
        raise BadDataset(f"{root} has no configuration '{name}'; {suggestion(name, configs)}")
    files = []
    for entry in configs[name]:
        split, patterns = (
            (entry.get("split", "train"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        )
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            _inside(root, str(pattern), "README.md")
            paths = sorted(path for path in root.glob(str(pattern)) if path.suffix == ".parquet")
            if not paths:
                raise BadDataset(
                    f"{root}: configuration '{name}' names '{pattern}', but there is no such parquet file; clone the repository "
                    "with its files (git lfs pull), or choose another `config`"
                )
            files += [DataFile(path, str(split)) for path in paths]
    return files


def _parquet_files(root: Path) -> list[Path]:
    return sorted((root / "data").glob("*.parquet")) or sorted(root.glob("*.parquet"))


def _split_of_name(path: Path) -> str:
    match = _SHARD.fullmatch(path.stem)
    return match["split"] if match else path.stem


def _inside(folder: Path, name: str, origin: str) -> Path:
    """Return the path of a file in a folder; names come from foreign files, so they must not lead out of it."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BadDataset(f"{folder / origin} names '{name}', which is outside of the folder; save the dataset again")
    return folder / name


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BadDataset(f"{path} is missing, although {STATE_FILE} names it; copy the folder again")
    return path
