"""The targets: for each reader, a function of bytes that asserts what must be true for any bytes.

Each check returns a short text that says how the reader treated the input. Inputs with a new text are kept for further
mutations. Declared errors are caught; everything else that a check raises is a failure.
"""

import asyncio
import json
import math
import os
import re
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.annotations import read_csv_annotations
from vlm_audio_pipeline.classifiers.language_models.asking import _row, _table
from vlm_audio_pipeline.classifiers.language_models.endpoint.anthropic_wire import parse_message
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchResult
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.results import read_result
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import embedded_failure
from vlm_audio_pipeline.classifiers.language_models.endpoint.label_scoring import likelihood_reply
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.prompt_logprobs import (
    PromptReply,
    parse_input_logprobs,
    parse_prompt_logprobs,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import (
    redact,
    remove_key,
    remove_key_from_reply,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import (
    MAX_BODY_BYTES,
    BadEncoding,
    BodyTooLarge,
    read_body,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Request
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.stored_responses import is_readable, read_payload, stored_payload
from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy, VlmAudioError
from vlm_audio_pipeline.datasets.annotations.events import ReadOptions
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats, recognise_format
from vlm_audio_pipeline.datasets.audio import BadAudio, decode
from vlm_audio_pipeline.datasets.csv_columns import guess_columns
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline.datasets.csv_reader import read_csv
from vlm_audio_pipeline.datasets.huggingface_folder import HuggingFaceFolder
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.file_checksum import has_right_checksum
from vlm_audio_pipeline.storage.partition_files import is_intact, read_partition, read_provenance
from vlm_audio_pipeline.storage.result_rows import damaged_rows
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.sqlite_files import sqlite_problem
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.fuzzing import seeds
from vlm_audio_pipeline_tests.fuzzing.damage import damage

KEY = "sk-1234567890abcdef"
LABELS = ("dog", "rain")
PRICES = Prices(input=1e6, output=1e6, cached_input=0.1)
ENDPOINT = Endpoint(url="http://127.0.0.1:1/v1", batch=True)


class TooSlow(AssertionError):
    """A check used more CPU time than its target allows."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        check: asserts the properties for bytes; it gets an empty folder for files, and returns how the input was treated.
        seeds: returns valid and odd inputs to begin with.
        words: pieces of the reader's language, inserted by mutations.
        max_bytes: size of the longest input.
        max_cpu_s: CPU time that one check may take, s; about a hundred times what the slowest seed takes.
    """

    check: Callable[[bytes, Path], str]
    seeds: Callable[[], list[bytes]]
    words: tuple[str, ...] = ()
    max_bytes: int = 20_000
    max_cpu_s: float = 5.0


def execute(target: Target, data: bytes) -> str:
    """Run a check on bytes in an empty folder, with its limit of CPU time; return how the input was treated."""

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {target.max_cpu_s} s of CPU time for {len(data)} bytes")

    handler = signal.signal(signal.SIGVTALRM, stop)
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz", dir=SCRATCH) as folder:
            signal.setitimer(signal.ITIMER_VIRTUAL, target.max_cpu_s)
            try:
                return target.check(data, Path(folder))
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, handler)


SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
"""Folder for files: in memory if the machine has such a folder and this user may write there."""


def signature(error: BaseException) -> str:
    """Return what identifies a failure: its class, and the innermost place in the package or in the targets."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f for f in frames if "vlm_audio_pipeline" in f.filename and f.name not in ("stop", "execute")]
    place = places[-1] if places else frames[-1]
    where = f"{Path(place.filename).stem}.{place.name}"
    if not isinstance(error, RecursionError | TooSlow):
        where += f":{place.line}"
    return f"{type(error).__name__} in {where}"


def shape(message: str) -> str:
    """Return a message without its values, to recognise messages of one kind."""
    message = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+", "", message.split("\n")[0][:400])
    return re.sub(r"[\d.]+|[^\x20-\x7e]+", "", message)[:80]


def check_study(data: bytes, folder: Path) -> str:
    """A study file gives a study, or a BadStudy whose every line names the file."""
    path = folder / "s.yaml"
    path.write_bytes(data)
    try:
        study = load_study(path)
    except BadStudy as error:
        lines = str(error).split("\n")
        assert str(error).startswith(str(path)), str(error)
        assert len(str(error)) < 1_000_000, len(str(error))
        return shape(lines[0].replace(str(path), ""))
    assert study.path == path.resolve()
    assert study.classifiers, "a study needs a classifier"
    assert isinstance(study.description, str) and isinstance(study.name, str)
    str(study).encode()
    return f"study {study.dataset.kind} {sorted({c.kind for c in study.classifiers.values()})}"


def check_csv(data: bytes, folder: Path) -> str:
    """A CSV gives unique columns and complete rows in the order of their lines, or a BadDataset."""
    path = folder / "a.csv"
    path.write_bytes(data)
    try:
        header, rows = read_csv(path)
    except BadDataset as error:
        return shape(str(error))
    assert header and len(set(header)) == len(header), header
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines)) and all(0 < n <= data.count(b"\n") + data.count(b"\r") + 1 for n in lines)
    for row in rows:
        assert list(row.cells) == header
        assert all(cell == cell.strip() and "\0" not in cell for cell in row.cells.values())
        assert any(row.cells.values())
    return f"{min(len(header), 8)} columns, {min(len(rows), 8)} rows"


def check_events(data: bytes, folder: Path) -> str:
    """Every annotation format gives events with labels and ordered times, or a BadDataset that names the file."""
    path = folder / "a.txt"
    path.write_bytes(data)
    recognised = recognise_format(path)
    outcomes = [recognised.name if recognised else "none"]
    # Files without confidences are refused with `min_confidence`, so every file is read without it, too.
    for annotation_format, min_confidence in product(annotation_formats().values(), (0.0, 0.5)):
        try:
            annotations = annotation_format.read(path, ReadOptions(min_confidence=min_confidence))
        except BadDataset as error:
            assert str(path) in str(error), str(error)
            if recognised == annotation_format:
                outcomes.append(shape(str(error).replace(str(path), "")))
            continue
        for event in annotations.events:
            assert event.label.strip() and 0 <= event.start_s <= event.end_s < math.inf, event
            assert event.recording in annotations.recordings
        assert all(all(clip.labels) and clip.recording in annotations.recordings for clip in annotations.clips)
        outcomes.append(f"{annotation_format.name} {min(len(annotations.events), 3)} {min(len(annotations.clips), 3)}")
    return ", ".join(outcomes)


def check_listing(data: bytes, folder: Path) -> str:
    """A listing gives a dataset whose clips have unique ids, a label, a fold and a file, or a BadDataset."""
    path = folder / "a.csv"
    path.write_bytes(data)
    try:
        header, rows = read_csv(path)
        columns = guess_columns(header, [list(row.cells.values()) for row in rows[:20]])
        dataset = CsvDataset(path=path, columns=columns).open(DataFolder(folder / "data"))
    except BadDataset as error:
        return shape(str(error))
    ids = [clip.id for clip in dataset.clips]
    assert ids and len(set(ids)) == len(ids), ids
    for clip in dataset.clips:
        assert clip.label in dataset.classes and clip.source and clip.file and clip.fold >= 1, clip
        assert clip.start_s is None or (math.isfinite(clip.start_s) and clip.start_s >= 0), clip
        assert clip.end_s is None or (math.isfinite(clip.end_s) and clip.end_s > (clip.start_s or 0)), clip
    pa.array([clip.fold for clip in dataset.clips], pa.int64())
    return f"{min(len(ids), 8)} clips, {min(len(dataset.classes), 8)} classes"


def check_annotations(data: bytes, folder: Path) -> str:
    """Annotations have a clip, a label and an annotator, and are storable, or the file is a BadDataset."""
    path = folder / "a.csv"
    path.write_bytes(data)
    try:
        annotations = read_csv_annotations.__wrapped__(path, 0)
    except BadDataset as error:
        return shape(str(error))
    assert all(a.clip and a.label and a.annotator for a in annotations)
    assert len({(a.clip, a.trial) for a in annotations}) == len(annotations), "a trial occurs twice for a clip"
    pa.array([a.seconds for a in annotations], pa.float64())
    times = pa.array([a.answered_at for a in annotations], pa.timestamp("us", tz="UTC"))
    assert [t and t.timestamp() for t in times.to_pylist()] == [
        a.answered_at and a.answered_at.timestamp() for a in annotations
    ]
    return f"{min(len(annotations), 8)} annotations, {times.null_count > 0}"


def check_answer(data: bytes, folder: Path) -> str:
    """A response (the first byte chooses the classes) gives one of the classes if it is answered, and else none."""
    classes = seeds.CLASS_SETS[data[0] % len(seeds.CLASS_SETS)] if data else seeds.CLASS_SETS[0]
    parsed = parse_response(data[1:].decode(errors="replace"), classes)
    assert parsed.outcome in ("answered", "unparseable", "refused"), parsed
    assert (parsed.label in classes) if parsed.outcome == "answered" else parsed.label is None, parsed
    assert "unparseable" not in classes or parsed.rule, parsed
    return f"{parsed.outcome} {parsed.rule} {parsed.label}"


def check_wire(data: bytes, folder: Path) -> str:
    """Every parser of a response body gives a reply that has a price and can be stored and read back, without the key."""
    shown = redact(data.decode(errors="replace"), KEY)
    assert len(shown) <= 200 and KEY not in shown and "\n" not in shown
    failure = embedded_failure(data)
    if failure is not None:
        assert 400 <= failure[0] < 600
        json.dumps(failure[1])
        Dialect("max_tokens").adapt("", "", str(failure[1])[:20_000])
    try:
        body = remove_key(json.loads(data), KEY)
    except (ValueError, RecursionError):
        return "no JSON"
    request = Request((), LABELS, frozenset({"likelihood", "generation", "first_token"}))
    results = [
        read_result(BatchResult("0", status, body), Dialect("max_tokens"), "m", ENDPOINT, PRICES)
        for status in (200, 400, 500)
    ]
    replies = [
        *(result.reply for result in results),
        parse_reply(body, " without seed", LABELS),
        parse_message(body, " without seed"),
        parse_prompt_logprobs(body),
        parse_input_logprobs(body, True),
        parse_input_logprobs(body, False),
    ]
    treated = []
    for reply in replies:
        if isinstance(reply, PromptReply):
            scored = likelihood_reply(request, [reply.prompt[-3:]] * len(LABELS), [reply, reply])
            treated.append(check_reply(scored, ("likelihood",)))
        treated.append(check_reply(reply, ("generation", "first_token")))
    return " ".join(treated)


def check_reply(reply: Reply, scorings: tuple[str, ...]) -> str:
    reply = remove_key_from_reply(reply, KEY)
    assert reply.outcome in ("answered", "truncated", "refused", "error"), reply
    assert (reply.error is not None) == (reply.outcome == "error"), reply
    usd = PRICES.usd(reply.usage)
    assert usd is None or (math.isfinite(usd) and usd >= 0), usd
    for text in (reply.text, reply.reasoning, reply.error, reply.model):
        assert text is None or KEY not in text
        (text or "").encode()
    if reply.outcome != "error":
        for scoring in scorings:
            if scoring == "first_token" and reply.first_tokens is None:
                continue
            payload = stored_payload(reply, scoring)
            assert is_readable(payload)
            if scoring == "generation":
                assert read_payload(payload).text == reply.text
            (row,) = _table([_row(json.loads(payload), LABELS)]).to_pylist()
            assert row["text"] == (reply.text if scoring == "generation" else None)
            values = [value for _, value in row["first_token_probabilities"] or () if value is not None]
            assert all(0 <= value <= 1 for value in values), values
            assert all(math.isfinite(value) for _, value in row["log_probabilities"] or ())
    return f"{reply.outcome[0]}{shape(reply.error or '')[:40]}{reply.first_tokens is not None:d}{usd is not None:d}"


@dataclass
class PackedResponse:
    """The part of a streamed httpx response that `read_body` uses."""

    content: bytes
    headers: dict[str, str]

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        yield self.content


def check_packed_body(data: bytes, folder: Path) -> str:
    """A packed body (the first byte chooses the encoding) gives bytes of a limited size, or a declared error."""
    encoding = seeds.ENCODINGS[data[0] % len(seeds.ENCODINGS)] if data else "gzip"
    try:
        body = asyncio.run(read_body(PackedResponse(data[1:], {"content-encoding": encoding})))
    except (BadEncoding, BodyTooLarge) as error:
        return f"{encoding} {type(error).__name__} {shape(str(error))}"
    assert len(body) <= MAX_BODY_BYTES
    return f"{encoding} {len(body).bit_length()}"


def is_in_an_index(db: sqlite3.Connection, key: str) -> bool:
    """Return whether a search in one of the two indexes of the results finds a key."""
    indexes = ("sqlite_autoindex_results_1", "results_by_checksum")
    queries = [f"SELECT 1 FROM results INDEXED BY {index} WHERE result_key = ?" for index in indexes]
    return any(db.execute(query, [key]).fetchone() is not None for query in queries)


def check_result_store(data: bytes, folder: Path) -> str:
    """A damaged result store gives the right payloads, or none, or a VlmAudioError; and stores again what is absent."""
    path = folder / "store.sqlite"
    logged = bool(data) and data[0] % 2 == 1  # the damage is in the log
    files = seeds.store_files(logged)
    damaged_name = "store.sqlite-wal" if logged else "store.sqlite"
    for name, content in files.items():
        (folder / name).write_bytes(damage(content, data[1:]) if name == damaged_name else content)
    expected, keys = seeds.RESULTS, [*seeds.RESULTS, "absent"]
    treated = ["fine" if sqlite_problem(path) is None else "damaged"]
    is_refused = False
    results: dict[str, bytes] = {}
    try:
        store = ResultStore(path)
    except VlmAudioError as error:
        return f"refused {shape(str(error.__cause__))}"
    try:
        try:
            results = store.get(keys)
            wrong = {key for key in results if results[key] != expected.get(key)}
            assert not wrong, f"wrong payloads of {sorted(wrong)}"
            treated.append(f"got {len(results)}")
        except (VlmAudioError, seeds.DATABASE_ERRORS) as error:
            treated.append(shape(str(error.__cause__ or error)))
            is_refused = True
        try:
            damaged = {key for key, _ in damaged_rows(store._db)}
            stored = {key for (key,) in store._db.execute("SELECT result_key FROM results NOT INDEXED")}
            hidden = stored.intersection(expected) - damaged - results.keys()
            # Two instructions can hide a result in both indexes; one of them alone shows it.
            has_two_instructions = len(data) >= 1 + 2 * 6
            shown = {key for key in hidden if is_in_an_index(store._db, key)}
            excused = hidden - shown if has_two_instructions else set()
            assert is_refused or hidden <= excused, f"intact, but not found: {sorted(hidden - excused)}"
        except (VlmAudioError, seeds.DATABASE_ERRORS) as error:
            treated.append(shape(str(error.__cause__ or error)))
        for action in (
            lambda: store.count("vector"),
            lambda: store.sizes("vector", seeds.LATER),
            lambda: store.file_digests([path]),
            lambda: store.is_marked_intact(path),
            lambda: store.put("vector", expected.items()),
            lambda: store.delete("vector", ["absent"]),
        ):
            try:
                action()
            except VlmAudioError as error:
                treated.append(shape(str(error.__cause__)))
                break
        else:
            try:
                results = store.get(keys)
            except VlmAudioError as error:
                return " ".join([*treated, "lost", shape(str(error.__cause__))])
            incomplete = {key for key in expected if results.get(key) != expected[key]}
            # A program that cannot read its results ends, and stores nothing.
            assert is_refused or not incomplete, f"not stored again: {sorted(incomplete)}"
    finally:
        store.close()
    return " ".join(treated)


def check_recording(data: bytes, folder: Path) -> str:
    """A recording (the first byte chooses its suffix) gives finite samples on the scale of 1, or a BadAudio with its path."""
    path = folder / f"a.{seeds.SUFFIXES[data[0] % len(seeds.SUFFIXES)]}" if data else folder / "a.wav"
    path.write_bytes(data[1:])
    try:
        samples, rate, channels = decode(path)
    except BadAudio as error:
        assert str(error).startswith(f"{path} cannot be used: "), str(error)
        return shape(error.reason)
    assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples) and rate > 0 and channels > 0
    assert np.isfinite(samples).all()
    return f"{path.suffix} {channels} {rate.bit_length()} {len(samples).bit_length()}"


def check_partition_file(data: bytes, folder: Path) -> str:
    """A damaged partition file is refused, or it is read with the right rows and provenance."""
    path = folder / "part-0.parquet"
    complete, table, provenance = seeds.partition_file()
    content = damage(complete, data)
    path.write_bytes(content)
    with path.open("rb") as file:
        is_right = has_right_checksum(file)
    assert not is_right or content == complete
    treated = [str(is_right), str(read_provenance(path) is None)]
    treated.append(str(is_intact(path, None)))
    try:
        found, found_provenance = read_partition(path, TABLES["predictions"])
    except pa.ArrowInvalid as error:
        assert content != complete
        return " ".join([*treated, shape(str(error).split("damaged:")[-1])])
    if is_right is not None:  # otherwise the damage made it a file of an older version, whose footer has no checksum
        assert found.equals(table) and found_provenance == provenance
    return " ".join([*treated, "read"])


def check_hub_folder(data: bytes, folder: Path) -> str:
    """A damaged file of a Hugging Face dataset (the first byte chooses which) is refused, or it is read without any other error."""
    files = seeds.hub_folder()
    names = sorted(files)
    damaged = names[data[0] % len(names)] if data else names[0]
    for name, content in files.items():
        path = folder / "hub" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage(content, data[1:]) if name == damaged else content)
    spec = HuggingFaceFolder(path=folder / "hub", n_folds=2, on_bad_clip="skip")
    try:
        dataset = spec.open(DataFolder(folder / "data"))
    except BadDataset as error:
        return f"{damaged} {shape(str(error))}"
    assert all((dataset.root / clip.file).is_file() and clip.label in dataset.classes for clip in dataset.clips)
    return f"{damaged} {len(dataset.clips)} {len(dataset.left_out)}"


TARGETS = {
    "study": Target(check_study, seeds.studies, seeds.STUDY_WORDS),
    "csv": Target(check_csv, seeds.csvs, seeds.CSV_WORDS, max_cpu_s=1.0),
    "listing": Target(check_listing, seeds.listings, seeds.CSV_WORDS, max_cpu_s=2.0),
    "annotations": Target(check_annotations, seeds.annotations, seeds.CSV_WORDS, max_cpu_s=2.0),
    "events": Target(check_events, seeds.events, seeds.EVENT_WORDS, max_cpu_s=2.0),
    "answer": Target(check_answer, seeds.answers, seeds.ANSWER_WORDS, max_bytes=11_000, max_cpu_s=2.0),
    "wire": Target(check_wire, seeds.bodies, seeds.WIRE_WORDS),
    "packed_body": Target(check_packed_body, seeds.packed_bodies),
    "result_store": Target(check_result_store, seeds.damages, max_bytes=100),
    "recording": Target(check_recording, seeds.recordings, seeds.RECORDING_WORDS, max_bytes=60_000),
    "hub_folder": Target(check_hub_folder, seeds.damages, max_bytes=100, max_cpu_s=2.0),
    "partition_file": Target(check_partition_file, seeds.damages, max_bytes=100),
}

sys.setrecursionlimit(1000)  # Python's own; pytest or a debugger may have changed it
