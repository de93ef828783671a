"""Run the command in this process and check its output."""

import hashlib
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline_tests.bench import Bench

PROGRAM = Path(sys.executable).with_name("vlm-audio")
# of the bench: 3 folds x (clips, embeddings, probes, 3 x predictions), 3 x metrics, quality of the embeddings,
# leaderboard, leakage, history
STEPS = 3 * 6 + 3 + 1 + 3


@dataclass
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.rstrip("\n").splitlines()[-1]


def vlm_audio(*arguments: object, data: Path | None = None) -> CommandResult:
    """Run the command in this process through its entry point."""
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
    return CommandResult(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())


def annotated_bench(folder):
    """Return a bench whose annotators labelled 10 of the 12 clips, some of each fold."""
    bench = Bench(folder)
    with (folder / "annotations.csv").open("a") as file:
        file.writelines(
            f"{r['id']},{annotator},{r['label']}\n" for r in bench.rows[8:10] for annotator in ("ann", "bob")
        )
    bench.write()
    return bench


def run_command(bench, command, *arguments):
    """Run a command with the study file of a bench."""
    return vlm_audio(command, bench.folder / "bench.yaml", *arguments, data=bench.data_folder.root)


def query_results(bench, query):
    """Query the results of a bench with `vlm-audio sql`."""
    result = vlm_audio("sql", query, "--format", "json", data=bench.data_folder.root)
    assert result.code == 0, result.err
    return json.loads(result.out)


def assert_refused(result, *words, code=2):
    """Check that a command ended with an error message and no traceback."""
    assert result.code == code
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in result.err


def snapshot(folder):
    """Return the digest of every result file, without locks and the result store (which also stores file digests)."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "locks" and not p.name.startswith(("results.sqlite", "format.json"))
    }
