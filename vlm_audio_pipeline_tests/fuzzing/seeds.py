"""Inputs to begin with, from the package's own studies, documents, tests and formats."""

import csv
import gzip
import json
import re
import sqlite3
import tempfile
import zlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

import vlm_audio_pipeline_tests
from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.storage.partition_files import Provenance, write_partition
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.studies.loading import built_in_studies
from vlm_audio_pipeline.studies.study import KEYS
from vlm_audio_pipeline_tests.datasets.hub_folders import AUDIO_AND_LABEL, save_to_disk
from vlm_audio_pipeline_tests.datasets.odd_recordings import RECORDINGS
from vlm_audio_pipeline_tests.storage.example_tables import predictions

TESTS = Path(vlm_audio_pipeline_tests.__file__).parent
DATABASE_ERRORS = sqlite3.DatabaseError
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def _words(text: str) -> list[str]:
    return text.split()


ESC10 = _words("dog rain sea_waves crying_baby clock_tick sneezing helicopter chainsaw rooster crackling_fire")
CLASS_SETS: tuple[list[str], ...] = (
    ESC10,
    ["c++", "c#", "none", "yes", "no", "other"],
    [str(i) for i in range(10)],
    ["a", "b", "c", "I", "the"],
    ["error", "refused", "unparseable", "truncated", "answered"],
    ["犬", "雨", "海の波", "собака", "perro", "שלום"],
    ["dog", "dog bark", "hot dog", "not dog", "silence", "can opening", "door, wood creaks"],
    ["", "()", "[x]", "\\d+", "a" * 300],
)
"""Classes of the study whose responses are parsed: of ESC-10, everyday words, numbers, letters, other languages, odd names."""

STUDY_WORDS = (
    *KEYS,
    *DATASETS.all(),
    *CLASSIFIERS.all(),
    *_words(
        "&a *a <<: ? | > !!int !!binary !!set !!python/object:os.system !!timestamp %YAML --- ... ~ [ ] { } , : # @ ` ' \""
    ),
    *_words("1:30:00 2026-13-45 0b1 0o7 .inf .nan -.inf 1e400 yes no on null _ 12e03 2001-12-14t21:59:43.10-05:00 = !"),
    *_words(
        "kind: encoder: encoder_kind k: url: prices: first: usd: shots: trials: controls: folds: path: ~root ~/x ../.. /dev/zero"
    ),
    *_words(
        "left: right: tuning_folds: without_tuning all clap aimv2 rendering: size: endpoint: model: prompt: synonyms: classes:"
    ),
    ": ",
    "\n  ",
    "\n    ",
    "\n- ",
    "\x00",
    "\u2028",
    "<<: *a",
    "a: &a [*a]",
)
CSV_WORDS = (
    *_words("path label fold source start end id clip annotator reader seconds answered_at rendering sep=; ; , ' \""),
    *_words('"" \\ / .. /etc/passwd C:\\x a.wav a.raw .wav nan inf 1e308 -0 ٣ ² 1_0 0x1 2026-01-01T00:00:00Z =1+1 @x'),
    *_words("0001-01-01T00:00:00+23:59 9999-12-31T23:59:59-23:59 2026-W01-1 20260101T000000,5"),
    "\t",
    "\r\n",
    "\r",
    "\n\n",
    "\0",
    "\ufeff",
    "\u2028",
    "\x0b",
    "\x1c",
    "\xa0",
    '"a\nb"',
    "sep=\t\n",
    'sep="',
)
EVENT_WORDS = (
    *CSV_WORDS,
    *_words(
        "onset offset event_label audiofilename segment_id 1,5 1,500 -1.0 \\ # [] {} null true labels result value"
    ),
)
ANSWER_WORDS = (
    *ESC10,
    *_words(
        "Answer: answer: final not no nor neither isn't without wait, Wait. maybe could or and but although however unless"
    ),
    *_words(
        "<think> </think> <answer> </answer> [THINK] [/THINK] <|channel|> final <|message|> <|end|> <|im_end|> </s> ```json ```"
    ),
    *_words(
        "\\boxed{ } \\text{ ** __ ~~ ❌ ✅ ¬ ≠ [ ] [x] ( ) { } : ; . ? ! … — – 。 、 答案 是 答え geen kein pas ni"
    ),
    *_words(
        "{'class': \"label\": null true -1 2 1. 2) a) option class sound is the of 90% 2kHz dog's dog, dogs rain-free non-rain"
    ),
    "I cannot",
    "I'm sorry",
    "The class is",
    "The answer is",
    "the sound of",
    "rather than",
    "instead of",
    "Suppose it is",
    "\nuser:",
    "\n\n",
    ". ",
    ", ",
)
WIRE_WORDS = (
    *_words(
        '"choices" "message" "content" "finish_reason" "usage" "prompt_tokens" "completion_tokens" "total_tokens" "model"'
    ),
    *_words(
        '"prompt_tokens_details" "cached_tokens" "completion_tokens_details" "reasoning_tokens" "reasoning_content" "refusal"'
    ),
    *_words(
        '"text" "type" "thinking" "stop_reason" "input_tokens" "output_tokens" "stop_details" "explanation" "error" "code"'
    ),
    *_words(
        '"logprobs" "top_logprobs" "token" "logprob" "prompt_logprobs" "prompt_token_ids" "decoded_token" "meta_info"'
    ),
    *_words(
        '"input_token_logprobs" "status" "stop" "length" "content_filter" "end_turn" "\\ud800" "\\u0000" "²" "1" null true'
    ),
    *_words(
        'NaN Infinity -Infinity 1e308 -1e308 1e400 1000 -9999 -9999.5 9007199254740993 -1 0 0.5 [] {} [[ {"a": "sk-1234567890"'
    ),
    '"sk-1234567890abcdef"',
    "sk-12345",
)


SUFFIXES = ("wav", "flac", "ogg", "mp3", "au", "aiff", "raw", "m4a")
RECORDING_WORDS = (
    *_words(
        "RIFF RIFX RF64 BW64 WAVE fmt\u0020 data LIST ds64 fact id3\u0020 ID3 TAG fLaC OggS FORM AIFF COMM SSND caff desc"
    ),
    *_words(".snd NIST_1A sample_count sample_n_bytes Xing Info LAME OpusHead vorbis APETAGEX ftyp moov mdat"),
    *("\x00" * n for n in (1, 2, 4, 8)),
    "\x7f\x7f\x7f\x7f",
    "\x01\x00\x00\x00",
)


def recordings() -> list[bytes]:
    """Return short recordings in every container, and damaged ones; the first byte is the number of their suffix."""
    files = [(suffix, make()) for suffix, make in RECORDINGS.values()]
    numbers = {suffix: number for number, suffix in enumerate(SUFFIXES)}
    return [bytes([numbers.get(suffix, 0)]) + data for suffix, data in files if len(data) < 60_000]


def studies() -> list[bytes]:
    """Return the built-in studies and the studies in the documents, as YAML and as JSON, which YAML contains."""
    texts = [path.read_text() for path in built_in_studies().values()]
    documents = [*sorted((TESTS.parent / "docs").glob("*.md")), TESTS.parent / "README.md"]
    blocks = [b for path in documents for b in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)]
    small = "name: s\ndataset: {kind: synthetic}\nencoders: {e: {kind: spectral}}\nclassifiers: {p: {kind: probe, encoder: e}}\n"
    yaml_texts = [*texts, *blocks, *(small + block for block in blocks), small]
    values = [yaml.safe_load(text) for text in (*texts, *blocks)]
    for value in values:
        if isinstance(value, dict):
            value.setdefault("dataset", {"kind": "synthetic"})
            value.setdefault("analyses", ["leakage"])
    return [text.encode() for text in (*yaml_texts, *(json.dumps(value, default=str) for value in values))]


def csvs() -> list[bytes]:
    """Return listings, annotations and other CSV files."""
    others = ("sep=;\na;b\n1;2\n", 'a\tb\n"x\ny"\t2\n', "\ufeffa,b\r\n1,2\r\n", "a\n1\n\n2\n", 'a,b\n"1""2",3\n', "")
    return [*listings(), *annotations(), *(text.encode() for text in others), "ä,b\n1,2\n".encode("latin-1")]


def events() -> list[bytes]:
    """Return a file of each annotation format."""
    from vlm_audio_pipeline_tests.datasets.annotations.instances import INSTANCES, LABEL_STUDIO_CSV

    return [text.encode() for text in (*(instance[1] for instance in INSTANCES.values()), LABEL_STUDIO_CSV)]


def listings() -> list[bytes]:
    """Return listings of clips with and without folds, sources and segments."""
    rows = [(f"{label}{i}.wav", label, 1 + i % 2) for label in ("dog", "rain") for i in range(4)]
    plain = "path,label,fold\n" + "".join(f"{p},{label},{fold}\n" for p, label, fold in rows)
    without_folds = "filename;category\n" + "".join(f"{p};{label}\n" for p, label, _ in rows)
    segments = "file,class,start,end,source,fold\n" + "".join(
        f"sub/{p},{label},{i}.5,{i + 1}.25,s{i // 2},{1 + i // 4}\n" for i, (p, label, _) in enumerate(rows)
    )
    return [text.encode() for text in (plain, without_folds, segments, plain.replace("\n", "\r\n"), "\ufeff" + plain)]


def annotations() -> list[bytes]:
    """Return annotations, as sheets and spreadsheets save them."""
    plain = "clip,annotator,label\na,x,dog\nb,x,rain\na,y,dog\na,x,rain\n"
    sheet = (
        "clip,annotator,label,rendering,seconds,answered_at\n"
        "a,x,dog,paper,1.5,2026-01-02T03:04:05Z\nb,y,rain,paper,,2026-01-02T03:04:05.123456+02:00\nc,y,rain,,0,2026-01-02\n"
    )
    return [text.encode() for text in (plain, sheet, plain.replace(",", ";"), plain.replace("annotator", "reader"))]


def answers() -> list[bytes]:
    """Return the responses of the test cases, of all class sets."""
    texts = []
    for name in ("answers.csv", "answer_variants.csv"):
        with (TESTS / "classifiers/language_models" / name).open(newline="", encoding="utf-8") as file:
            texts += [row["answer"] for row in csv.DictReader(file)]
    texts = texts[::5]
    words = [*(label for labels in CLASS_SETS for label in labels)]
    short = [template % word for word in words for template in ("%s", "Answer: %s.", "It is not %s", '{"label": "%s"}')]
    loops = [
        "Answer: dog, " * 800,
        "not " * 2500,
        "dog or " * 1400,
        "<think>" * 1400,
        "~~" * 5000,
        "(" * 10_000,
        "<answer>" * 1200,
    ]
    inputs = [bytes([0]) + text.encode() for text in (*texts, *loops)]
    return inputs + [bytes([i % len(CLASS_SETS)]) + text.encode() for i, text in enumerate((*short, *texts[::7]))]


def bodies() -> list[bytes]:
    """Return response bodies of chat completions, messages, and log-probabilities of prompts."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    top = [{"token": token, "logprob": value} for token, value in ((" dog", -0.2), ("Rain", -1.5), ("r", -9.0))]
    logprobs = {"content": [{"token": " dog", "logprob": -0.2, "top_logprobs": top}]}

    def chat(finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", **message},
            "finish_reason": finish_reason,
            "logprobs": logprobs,
        }
        return {"id": "x", "model": "m", "system_fingerprint": "f", "choices": [choice], "usage": usage}

    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "dog"}]
    prompt = [None, *({str(n): {"logprob": -0.5 * n, "rank": 1, "decoded_token": f"t{n}"}} for n in range(1, 6))]
    message = {
        "model": "c",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "dog"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 2,
            "cache_creation_input_tokens": 1,
            "output_tokens": 3,
        },
    }
    values: list[Any] = [
        chat(content="dog"),
        chat("length", content="<think>It could be"),
        chat("content_filter", content=None),
        chat(content=None, refusal="I cannot"),
        chat(content=parts),
        chat(content="dog", reasoning_content="hm"),
        chat(None, content="dog \ud83d"),
        {**chat(content="dog"), "prompt_logprobs": prompt, "prompt_token_ids": [0, 1, 2, 3, 4, 5]},
        {**chat(content="dog"), "prompt_logprobs": prompt},
        message,
        {**message, "stop_reason": "refusal", "stop_details": {"explanation": "no"}},
        {**message, "stop_reason": "max_tokens"},
        {
            "text": "",
            "meta_info": {
                "prompt_tokens": 4,
                "cached_tokens": 2,
                "completion_tokens": 0,
                "input_token_logprobs": [[None, 1, "a"], [-0.5, 2, "b"], [-1.5, 3, None]],
            },
        },
        {"error": {"code": 429, "message": "`seed` is not supported", "type": "rate_limit_error"}},
        {"choices": [{"error": {"code": "context_length_exceeded"}}]},
        {"error": "overloaded"},
        [],
        None,
    ]
    return [json.dumps(value).encode() for value in values]


ENCODINGS = ("gzip", "deflate", "gzip, deflate", "identity", "br")


def packed_bodies() -> list[bytes]:
    """Return packed bodies, the first byte is the number of their encoding; one unpacks to more than is accepted."""
    text = bodies()[0]
    raw = zlib.compress(text)[2:-4]
    packed = [
        gzip.compress(text, mtime=0),
        zlib.compress(text),
        gzip.compress(zlib.compress(text), mtime=0),
        text,
        text,
    ]
    large = gzip.compress(bytes(17_000_000), mtime=0)
    return [bytes([i]) + data for i, data in enumerate(packed)] + [b"\1" + raw, b"\0" + packed[0] * 2, b"\0" + large]


def damages() -> list[bytes]:
    """Return instructions for damage (see `damage`); the first byte also chooses the file of the result store."""
    return [
        b"\0",
        b"\1",
        *(bytes([log, op, p % 256, p // 256, 0, 85, 1]) for log in (0, 1) for op in range(6) for p in (9, 40_000)),
    ]


RESULTS = {
    f"{i:02x}" * 32: payload
    for i, payload in enumerate(
        (b"\0\1\2\3" * 600, b"", *(json.dumps({"text": "dog" * i}).encode() for i in range(30)))
    )
}
"""Payloads of the result store by key."""


@cache
def store_files(logged: bool) -> dict[str, bytes]:
    """Return the files of a result store with `RESULTS`, by name; `logged`: most results are only in its log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        store = ResultStore(path)
        items = list(RESULTS.items())
        store.put("vector", items[:5])
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.put("vector", items[5:])
        store._db.execute("UPDATE results SET created_at = '2026-01-01T00:00:00.000Z'")
        if logged:
            names = ("store.sqlite", "store.sqlite-wal")
            files = {name: (Path(folder) / name).read_bytes() for name in names}
            store.close()
            return files
        store.close()
        return {"store.sqlite": path.read_bytes()}


@cache
def hub_folder() -> dict[str, bytes]:
    """Return the files of a folder that `save_to_disk` wrote; its recordings are not decoded."""
    rows = [{"audio": {"bytes": b"RIFF%d" % i, "path": f"{i}.wav"}, "label": i % 2} for i in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        save_to_disk(Path(folder) / "hub", rows, AUDIO_AND_LABEL)
        return {path.name: path.read_bytes() for path in (Path(folder) / "hub").iterdir()}


@cache
def partition_file() -> tuple[bytes, pa.Table, Provenance]:
    """Return the bytes, the table and the provenance of a partition file."""
    provenance = Provenance("predictions/p", "1:0a1b", {"clips|1": "ab"}, "ef", {"seconds": 0.5})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part-0.parquet"
        write_partition(path, predictions(), provenance)
        return path.read_bytes(), predictions(), provenance
