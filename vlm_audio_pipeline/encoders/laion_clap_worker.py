"""The worker process of `laion_clap`: loads the original package and a checkpoint, and answers requests line by line.

Another Python executes this file with `-I`, so it imports nothing of this package. Requests and replies are JSON, one per
line; arrays are in files. The first request names the files to load. An error ends the process with the reason on stderr.
"""

import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

VOCABULARY = 50265  # tokens of RoBERTa's tokenizer
TRAINING_PACKAGES = ("torchvision", "webdataset", "braceexpand", "wget", "wandb", "pandas", "h5py", "PIL")
"""Packages that laion-clap imports, but uses only for training (torchvision also for audio over 10 s)."""


class _Stub(types.ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a stub for a training package; None for any other package."""
        is_stub = name.split(".")[0] in TRAINING_PACKAGES
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_stub else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Create a stub."""
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave the stub empty."""


@contextlib.contextmanager
def stub_training_packages() -> Iterator[None]:
    """Replace the training packages by stubs while laion-clap is imported."""
    import librosa  # these four import some of the same packages and must not find the stubs  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    finder, before = _StubFinder(), dict(sys.modules)
    for name in [n for n in sys.modules if n.split(".")[0] in TRAINING_PACKAGES]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.split(".")[0] in TRAINING_PACKAGES]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in before.items() if n.split(".")[0] in TRAINING_PACKAGES})


@contextlib.contextmanager
def avoid_downloads(folder: str) -> Iterator[None]:
    """Make laion-clap load its tokenizer and an untrained RoBERTa from a folder instead of downloading them.

    At import, laion-clap downloads three tokenizers, of which it uses only RoBERTa's, and the weights of RoBERTa, which its
    checkpoint then replaces.
    """
    from transformers import BartTokenizer, BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

    tokenizer = RobertaTokenizer(
        f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=512, add_prefix_space=False
    )
    if len(tokenizer) != VOCABULARY:
        sys.exit(f"the tokenizer in {folder} must have RoBERTa's {VOCABULARY} tokens, got {len(tokenizer)}")
    loaders: dict[Any, Any] = {
        BertTokenizer: lambda *a, **k: None,
        BartTokenizer: lambda *a, **k: None,
        RobertaTokenizer: lambda *a, **k: tokenizer,
        RobertaModel: lambda *a, **k: RobertaModel(RobertaConfig.from_json_file(f"{folder}/config.json")),
    }
    for cls, loader in loaders.items():
        cls.from_pretrained = loader  # hides the inherited method
    try:
        yield
    finally:
        for cls in loaders:
            del cls.from_pretrained


def load(checkpoint: str, audio_model: str, fusion: bool, tokenizer_folder: str, device: str) -> Any:
    """Return the package's CLAP_Module with one of its checkpoints, in evaluation mode.

    Args:
        checkpoint: path of the `.pt` file; read with `weights_only`, because the package would unpickle arbitrary objects.
        audio_model: "HTSAT-tiny" or "HTSAT-base".
        fusion: whether the model has feature fusion.
        tokenizer_folder: folder with RoBERTa's vocab.json, merges.txt and config.json.
        device: "auto", "cpu" or "cuda".
    """
    import numpy as np
    import torch

    with stub_training_packages(), avoid_downloads(tokenizer_folder):
        import laion_clap

        target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        module = laion_clap.CLAP_Module(enable_fusion=fusion, device=target, amodel=audio_model)
    numpy: Any = np
    scalars = [numpy.core.multiarray.scalar, np.dtype, *(type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8"))]
    with torch.serialization.safe_globals(scalars):  # its checkpoints contain a few numpy scalars besides tensors
        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
            # torch's own message advises to load with `weights_only=False`, which runs code from the file.
            raise SystemExit(
                f"{checkpoint} does not contain weights only ({type(error).__name__}): it is damaged, or contains other objects, which "
                "could run code when they are loaded; download it again"
            ) from None
    state = {k.removeprefix("module."): v for k, v in content.get("state_dict", content).items()}
    state.pop("text_branch.embeddings.position_ids", None)  # an index table that transformers no longer stores
    module.model.load_state_dict(state, strict=True)
    return module.eval()


def main() -> None:
    """Answer requests until stdin ends."""
    import numpy as np
    import torch

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the package prints to stdout; that must not mix with replies

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()

    module = load(**json.loads(sys.stdin.readline()))
    reply(logit_scale=float(module.model.logit_scale_a.exp()))
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            if "texts" in request:
                vectors = module.get_text_embedding(request["texts"])
            else:
                with np.load(request["clips"]) as clips:
                    vectors = module.get_audio_embedding_from_data([clips[f"arr_{i}"] for i in range(len(clips))])
            np.save(request["vectors"], np.asarray(vectors, np.float32))
            reply(done=len(vectors))


if __name__ == "__main__":
    main()
