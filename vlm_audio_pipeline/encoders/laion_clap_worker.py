"""Runs laion-clap inside an environment of its own, and answers requests line by line.

What belongs here: loading the original package and a checkpoint of its own, and calling it. What does not: anything of
this package (this file is executed by another Python, with `-I`, and imports nothing of it), windows, downloads.

Requests and answers are JSON, one a line; arrays lie in files. The first request says what to load. Whatever goes wrong
ends the process with the reason on stderr.
"""

import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

VOCABULARY = 50265  # pieces of RoBERTa's tokenizer
ONLY_FOR_TRAINING = ("torchvision", "webdataset", "braceexpand", "wget", "wandb", "pandas", "h5py", "PIL")
"""Imported by laion-clap at its top, used by its training code alone (torchvision also for what is over 10 s)."""


class _Hollow(types.ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _HollowFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find what is only used in training."""
        hollow = name.split(".")[0] in ONLY_FOR_TRAINING
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if hollow else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Make an empty one."""
        return _Hollow(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill it with nothing."""


@contextlib.contextmanager
def without_training() -> Iterator[None]:
    """Let what is only used in training be imported without being there; afterwards it is as absent as before."""
    import librosa  # noqa: F401  # these look for some of the same packages: they must not find hollow ones
    import sklearn.metrics  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    finder, before = _HollowFinder(), dict(sys.modules)
    for name in [n for n in sys.modules if n.split(".")[0] in ONLY_FOR_TRAINING]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.split(".")[0] in ONLY_FOR_TRAINING]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in before.items() if n.split(".")[0] in ONLY_FOR_TRAINING})


@contextlib.contextmanager
def offline(folder: str) -> Iterator[None]:
    """Give laion-clap the tokenizer and the empty RoBERTa it asks the hub for, from a folder.

    It fetches three tokenizers when it is imported, of which one is used, and the weights of RoBERTa, which its
    checkpoint then replaces.
    """
    from transformers import BartTokenizer, BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

    tokenizer = RobertaTokenizer(
        f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=512, add_prefix_space=False
    )
    if len(tokenizer) != VOCABULARY:
        sys.exit(f"the tokenizer in {folder} must have RoBERTa's {VOCABULARY} pieces, got {len(tokenizer)}")
    given: dict[Any, Any] = {
        BertTokenizer: lambda *a, **k: None,
        BartTokenizer: lambda *a, **k: None,
        RobertaTokenizer: lambda *a, **k: tokenizer,
        RobertaModel: lambda *a, **k: RobertaModel(RobertaConfig.from_json_file(f"{folder}/config.json")),
    }
    for cls, make in given.items():
        cls.from_pretrained = make  # hides what the class inherits
    try:
        yield
    finally:
        for cls in given:
            del cls.from_pretrained


def load(checkpoint: str, audio_model: str, fusion: bool, text: str, device: str) -> Any:
    """Load the package's module with a checkpoint of its own, in evaluation mode.

    Args:
        checkpoint: path of the `.pt` file; read with `weights_only`, where the package would unpickle anything.
        audio_model: "HTSAT-tiny" or "HTSAT-base".
        fusion: whether the checkpoint is of a model with feature fusion.
        text: folder with RoBERTa's vocab.json, merges.txt and config.json.
        device: "auto", "cpu" or "cuda".
    """
    import numpy as np
    import torch

    with without_training(), offline(text):
        import laion_clap

        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        module = laion_clap.CLAP_Module(enable_fusion=fusion, device=place, amodel=audio_model)
    numpy: Any = np
    scalars = [numpy.core.multiarray.scalar, np.dtype, *(type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8"))]
    with torch.serialization.safe_globals(scalars):  # its checkpoints hold a few numbers of numpy besides tensors
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = {k.removeprefix("module."): v for k, v in stored.get("state_dict", stored).items()}
    state.pop("text_branch.embeddings.position_ids", None)  # a table of indices that transformers no longer stores
    module.model.load_state_dict(state, strict=True)
    return module.eval()


def main() -> None:
    """Answer requests until there are no more."""
    import numpy as np
    import torch

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    module = load(**json.loads(sys.stdin.readline()))
    answer(logit_scale=float(module.model.logit_scale_a.exp()))
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            if "texts" in request:
                found = module.get_text_embedding(request["texts"])
            else:
                with np.load(request["clips"]) as clips:
                    found = module.get_audio_embedding_from_data([clips[f"arr_{i}"] for i in range(len(clips))])
            np.save(request["vectors"], np.asarray(found, np.float32))
            answer(done=len(found))


if __name__ == "__main__":
    main()
