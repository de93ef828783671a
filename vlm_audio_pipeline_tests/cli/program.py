"""Calling the command within this process, and what it said."""

import hashlib
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.cli.main import main as cli
from vlm_audio_pipeline_tests.bench import Bench

PROGRAM = Path(sys.executable).with_name("vlm-audio")
# of the bench: 3 folds x (clips, embeddings, probes, 3 x predictions), 3 x metrics, quality of the embeddings,
# leaderboard, leakage, published, history
STEPS = 3 * 6 + 3 + 1 + 4


@dataclass
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.rstrip("\n").splitlines()[-1]


def vlm_audio(*arguments: object, data: Path | None = None) -> Said:
    """Call the command within this process, as its entry point does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    words = [*map(str, arguments), *(["--data", str(data)] if data else [])]
    before, sys.argv = sys.argv, ["vlm-audio", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
        code: object = 0
    except SystemExit as exited:
        code = exited.code or 0
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return Said(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())


def judged_in_every_fold(folder):
    """Make a bench whose people judged 10 of the 12 clips, some of each fold."""
    bench = Bench(folder)
    with (folder / "readings.csv").open("a") as file:
        file.writelines(f"{r['id']},{reader},{r['label']}\n" for r in bench.rows[8:10] for reader in ("ann", "bob"))
    bench.write()
    return bench


def call(bench, command, *arguments):
    """Call a command that takes a study file."""
    return vlm_audio(command, bench.folder / "bench.yaml", *arguments, data=bench.layout.root)


def ask(bench, query):
    """Ask the results of a bench, as a person would."""
    said = vlm_audio("sql", query, "--format", "json", data=bench.layout.root)
    assert said.code == 0, said.err
    return json.loads(said.out)


def refused(said, *words, code=2):
    """Check that a command ended with a message for a person."""
    assert said.code == code
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err + said.out
    for word in words:
        assert word in said.err


def snapshot(folder):
    """Give the digest of every file that holds results: not locks, nor the row store, which remembers file digests."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "locks" and not p.name.startswith("rows.sqlite")
    }
