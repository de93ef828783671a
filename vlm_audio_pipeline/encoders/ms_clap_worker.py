"""The worker process of `ms_clap`: loads the network of the package and a checkpoint, and answers requests line by line.

Another Python executes this file with `-I`, so it imports nothing of this package. Requests and replies are JSON, one per
line; arrays are in files. The first request names the files to load. An error ends the process with the reason on stderr.
"""

import importlib
import importlib.util
import json
import os
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

VOCABULARY = 50257  # tokens of GPT-2's tokenizer
MAX_TOKENS = 77
END = " <|endoftext|>"  # as the package ends a text
COMPUTED = re.compile(r"attn\.(masked_)?bias$|relative_position_index$|attn_mask$|position_ids$")
"""Tensors that are computed when the network is made; a checkpoint may contain them or not."""


class Model:
    """The network with a checkpoint, and the tokenizer.

    Args:
        checkpoint: path of the `.pth` file; read with `weights_only`.
        tokenizer_folder: folder with GPT-2's vocab.json, merges.txt and config.json.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, checkpoint: str, tokenizer_folder: str, device: str):
        import torch
        from transformers import GPT2TokenizerFast

        target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.network = _make_network(tokenizer_folder)
        _load_checkpoint(self.network, checkpoint)
        self.network = self.network.to(target).eval()
        self.device = target
        self.tokenizer: Any = GPT2TokenizerFast(f"{tokenizer_folder}/vocab.json", f"{tokenizer_folder}/merges.txt")
        self.tokenizer.add_special_tokens(
            {"pad_token": "!"}
        )  # as the package does; its network takes token 0 for padding
        if len(self.tokenizer) != VOCABULARY or self.tokenizer.pad_token_id != 0:
            sys.exit(
                f"the tokenizer in {tokenizer_folder} must have GPT-2's {VOCABULARY} tokens, of which `!` is the first, got "
                f"{len(self.tokenizer)} with `!` at {self.tokenizer.pad_token_id}"
            )

    def embed_clips(self, clips: list[Any]) -> Any:
        """Return unit vectors of clips, (samples,) float32 of at most 7 s; shorter clips are repeated, as in the package."""
        import numpy as np
        import torch

        windows = torch.from_numpy(np.stack([np.resize(clip, self.samples) for clip in clips]))
        return self._unit(self.network.audio_encoder(windows.to(self.device))[0])

    def embed_texts(self, texts: list[str]) -> Any:
        """Return unit vectors of texts; a text is cut to 77 tokens, with the token at its end whose state is the vector."""
        import torch

        end = self.tokenizer(END).input_ids
        tokens = [self.tokenizer(text + END).input_ids for text in texts]
        tokens = [t if len(t) <= MAX_TOKENS else [*t[: MAX_TOKENS - len(end)], *end] for t in tokens]
        ids = torch.tensor([t + [0] * (MAX_TOKENS - len(t)) for t in tokens], device=self.device)
        mask = torch.tensor([[1] * len(t) + [0] * (MAX_TOKENS - len(t)) for t in tokens], device=self.device)
        return self._unit(self.network.caption_encoder({"input_ids": ids, "attention_mask": mask}))

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return int(self.network.settings["duration"] * self.network.settings["sampling_rate"])

    def _unit(self, vectors: Any) -> Any:
        return (vectors / vectors.norm(dim=-1, keepdim=True)).float().cpu().numpy()


def _make_network(tokenizer_folder: str) -> Any:
    """Return the untrained network, without importing the wrapper of the package, which needs torchaudio and downloads GPT-2."""
    import yaml
    from transformers import GPT2Config, GPT2Model

    spec = importlib.util.find_spec("msclap")
    if spec is None or spec.origin is None:
        sys.exit("the package msclap is not in this environment")
    folder = Path(spec.origin).parent
    package = types.ModuleType("msclap")
    package.__path__ = [str(folder)]
    sys.modules["msclap"] = package  # its __init__.py would import the wrapper
    network: Any = importlib.import_module("msclap.models.clap")
    untrained = lambda *a, **k: GPT2Model(GPT2Config.from_json_file(f"{tokenizer_folder}/config.json"))  # noqa: E731
    network.AutoModel = types.SimpleNamespace(from_pretrained=untrained)
    settings = yaml.safe_load((folder / "configs" / "config_2023.yml").read_text())
    names = (
        "audioenc_name",
        "window_size",
        "hop_size",
        "mel_bins",
        "fmin",
        "fmax",
        "out_emb",
        "text_model",
        "transformer_embed_dim",
        "d_proj",
    )
    clap = network.CLAP(
        sample_rate=settings["sampling_rate"],
        classes_num=settings["num_classes"],
        **{name: settings[name] for name in names},
    )
    clap.settings = settings
    return clap


def _load_checkpoint(network: Any, checkpoint: str) -> None:
    import torch

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
        # torch's own message advises to load with `weights_only=False`, which runs code from the file.
        raise SystemExit(
            f"{checkpoint} does not contain the weights of MS-CLAP only ({type(error).__name__}): it is damaged, or contains other objects, "
            "which could run code when they are loaded; download it again"
        ) from None
    missing, unexpected = network.load_state_dict(state, strict=False)
    wrong = [name for name in (*missing, *unexpected) if not COMPUTED.search(name)]
    if wrong:
        sys.exit(
            f"{checkpoint} is not a checkpoint of MS-CLAP 2023: {len(wrong)} tensors are missing or unknown, among them {wrong[:3]}"
        )


def main() -> None:
    """Answer requests until stdin ends."""
    import numpy as np
    import torch

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the package prints to stdout; that must not mix with replies

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()

    model = Model(**json.loads(sys.stdin.readline()))
    reply(logit_scale=float(model.network.logit_scale.exp()))
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            if "texts" in request:
                vectors = model.embed_texts(request["texts"])
            else:
                with np.load(request["clips"]) as clips:
                    vectors = model.embed_clips([clips[f"arr_{i}"] for i in range(len(clips))])
            np.save(request["vectors"], vectors)
            reply(done=len(vectors))


if __name__ == "__main__":
    main()
