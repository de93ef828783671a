"""What sharing the examples and scoring labels as a tree saves: a language model's few-shot answers, against two loops.

One request is ten example images with their answers, then the query: every query of a fold begins with the same examples.
Compared are

- shared: `LocalBackend`, as the pipeline runs it: examples once, then each query with all labels in one pass;
- naive scoring: for each query the whole prompt once, then a batch of all labels on its cache (the honest baseline: ten
  forward calls, one a label, would be slower still);
- naive generation: `model.generate` of 8 tokens from the whole prompt.

All answer the same requests with the same weights, which are random (their values do not change the time), in turns
within one run. A fold of 80 queries is what is compared: the examples once and 80 times one query. Of the 80, `--queries` are
run, and of the naive loops `--naive`; the rest is multiplied up. Once a load, whatever the number of folds, the backend makes
sure with a forward call of its own that sharing is right: shown apart.

On a processor others use, too, their work is in the wall time, and waiting for one's own other threads is in the processor
time: there, `--threads 1`, and compare processor time.

    python benchmarks/language_models.py [--shape mid] [--queries 8] [--naive 2] [--threads 1]
    python benchmarks/language_models.py --shape janus-pro-1b --device cuda --queries 80 --naive 8
"""

import argparse
import importlib.metadata
import io
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Reply, Request, Sampling
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.engines import core_count

LABELS = (
    "dog",
    "rain",
    "sea waves",
    "crying baby",
    "clock tick",
    "sneeze",
    "helicopter",
    "chainsaw",
    "rooster",
    "fire",
)
QUESTION = f"Which sound does this spectrogram show? Options: {', '.join(LABELS)}. Answer with one option."
FOLD, GENERATED = 80, 8
WANTED = {"scoring": 7.0, "from scratch": 6.0, "tokens": 9.0}

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"image": 96, "vision": 64, "vision_layers": 2, "text": 128, "layers": 2, "heads": 4, "mlp": 256, "vocabulary": 0},
    "mid": {"image": 384, "vision": 256, "vision_layers": 6, "text": 512, "layers": 8, "heads": 8, "mlp": 1024, "vocabulary": 0},
    "janus-pro-1b": {
        "image": 384, "vision": 1024, "vision_layers": 24, "text": 2048, "layers": 24, "heads": 16, "mlp": 5632,
        "vocabulary": 102400,
    },
}  # fmt: skip
"""vocabulary 0: as small as the question allows. janus-pro-1b is deepseek-community/Janus-Pro-1B's config.json."""

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|User|>: {% else %}<|Assistant|>: {% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}\n<image_placeholder>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if not loop.last or add_generation_prompt %}{% if m['role'] == 'user' %}\n\n{% else %}<|end|>{% endif %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


def tokenizer(vocabulary: int) -> Any:
    """Train a byte-level BPE, filled up to a vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [
        "<|pad|>",
        "<|end|>",
        "<image_placeholder>",
        "<begin_of_image>",
        "<end_of_image>",
        "<|User|>",
        "<|Assistant|>",
    ]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([QUESTION, *(f" {label}" for label in LABELS)] * 3, trainer)
    state = json.loads(made.to_str())
    pieces = state["model"]["vocab"]
    pieces.update({f"<filler {i}>": i for i in range(len(pieces), vocabulary)})
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens={"image_token": special[2], "boi_token": special[3], "eoi_token": special[4]},
    )


def checkpoint(folder: Path, shape: dict[str, int], dtype: torch.dtype, device: str) -> None:
    """Write a Janus of a shape with random weights."""
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusProcessor,
        JanusVisionConfig,
        JanusVQVAEConfig,
        LlamaConfig,
    )
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    tok, size, tokens = tokenizer(shape["vocabulary"]), shape["image"], (shape["image"] // 16) ** 2
    images = JanusImageProcessorPil(size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    JanusProcessor(images, tok, chat_template=CHAT, num_image_tokens=tokens).save_pretrained(folder)
    vision = JanusVisionConfig(
        hidden_size=shape["vision"], num_hidden_layers=shape["vision_layers"], num_attention_heads=max(4, shape["vision"] // 64),
        image_size=size, patch_size=16, mlp_ratio=4.0 if shape["vocabulary"] else 2.0, projection_dim=shape["text"], depth=2,
        num_image_tokens=tokens,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tok), hidden_size=shape["text"], intermediate_size=shape["mlp"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["heads"], max_position_embeddings=16384,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    generating = JanusVQVAEConfig(
        embed_dim=4, num_embeddings=8, latent_channels=4, base_channels=32, channel_multiplier=[1], num_res_blocks=0,
        projection_dim=32, num_hidden_layers=1, image_token_embed_dim=32,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = JanusForConditionalGeneration(
            JanusConfig(
                vision_config=vision.to_dict(),
                text_config=text.to_dict(),
                vq_config=generating.to_dict(),
                image_token_id=tok.convert_tokens_to_ids("<image_placeholder>"),
                tie_word_embeddings=False,
            )
        )
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tok.eos_token_id, tok.pad_token_id
    model.to(dtype).save_pretrained(folder)


def image(seed: int) -> ImagePart:
    """Give noise in place of a spectrogram, 640 by 480, as a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (480, 640, 3), np.uint8)).save(file, "PNG")
    return ImagePart(file.getvalue(), "image/png", str(seed))


def requests(n: int, *scorings: Any, start: int = 1000) -> list[Request]:
    """Give n requests: ten examples, one a class, then a query that no other has."""
    examples = [image(i) for i in range(len(LABELS))]
    made = []
    for query in range(n):
        turns = [Message("user", (QUESTION, examples[0]))]
        for label, following in zip(LABELS, [*examples[1:], image(start + query)], strict=True):
            turns += [Message("assistant", (label,)), Message("user", (following,))]
        made.append(Request(tuple(turns), LABELS, frozenset(scorings), Sampling(max_tokens=GENERATED)))
    return made


class Naive:
    """The two loops, on the backend's own model and processor."""

    def __init__(self, backend: LocalBackend):
        self.model, self.processor, self.device = backend.model, backend.conversation.processor, backend.device
        self.answers = backend.conversation.prompt(requests(1)[0]).answers

    def inputs(self, request: Request) -> dict[str, torch.Tensor]:
        """Process a whole prompt."""
        turns = [
            {
                "role": m.role,
                "content": [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in m.parts],
            }
            for m in request.messages
        ]
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        images = [Image.open(io.BytesIO(p.data)) for m in request.messages for p in m.parts if isinstance(p, ImagePart)]
        return self.processor(text=text, images=images, return_tensors="pt").to(self.device, self.model.dtype)

    def score(self, request: Request) -> np.ndarray:
        """Give the labels' log-probabilities: the prompt once, the labels as a padded batch on copies of its cache."""
        made = self.inputs(request)
        out = self.model(
            input_ids=made["input_ids"], pixel_values=made["pixel_values"], use_cache=True, logits_to_keep=1
        )
        first = torch.log_softmax(out.logits[0, -1].float(), -1)
        longest = max(map(len, self.answers))
        ids = torch.tensor([[*a, *[0] * (longest - len(a))] for a in self.answers], device=self.device)
        there = torch.tensor([[1.0] * len(a) + [0.0] * (longest - len(a)) for a in self.answers], device=self.device)
        cache = out.past_key_values
        cache.batch_repeat_interleave(len(self.answers))
        logits = self.model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True).logits
        after = torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None])[..., 0]
        return (first[ids[:, 0]] + (after * there[:, 1:]).sum(1)).cpu().numpy()

    def generate(self, request: Request) -> int:
        """Generate from scratch; give the tokens computed."""
        made = self.inputs(request)
        out = self.model.generate(**made, max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False)
        return out.shape[1]


class Clock:
    """Wall time and this process's processor time, s, with the device idle at both ends."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self, call: Any, *args: Any) -> tuple[np.ndarray, Any]:
        """Call, and give both times with the result."""
        self.wait()
        started = self.now()
        result = call(*args)
        self.wait()
        return self.now() - started, result

    def now(self) -> np.ndarray:
        """Give both clocks."""
        return np.array([time.perf_counter(), time.process_time()])

    def wait(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def asked(backend: LocalBackend, wanted: list[Request]) -> list[Reply]:
    """Ask, and give the replies in order."""
    replies: dict[int, Reply] = {}
    backend.ask(wanted, replies.__setitem__)
    assert all(r.outcome == "answered" for r in replies.values()), replies
    return [replies[i] for i in range(len(wanted))]


def main() -> None:
    """Measure and print; exit with 1 if a speed-up is below its minimum."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--shape", default="mid", choices=list(SHAPES))
    options.add_argument("--queries", type=int, default=8)
    options.add_argument("--naive", type=int, default=2)
    options.add_argument("--batch", type=int, default=None)
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--dtype", default=None, choices=["float32", "bfloat16"])
    options.add_argument("--threads", type=int, default=None)
    options.add_argument("--smallest", action="store_true", help="only show that the benchmark still works")
    given = options.parse_args()
    if given.smallest:
        given.shape, given.queries, given.naive, given.batch = "tiny", 2, 1, 2
    if given.threads:
        torch.set_num_threads(given.threads)
    dtype = given.dtype or ("bfloat16" if given.device == "cuda" else "float32")
    os.environ["HF_HUB_OFFLINE"] = "1"

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        checkpoint(Path(folder), SHAPES[given.shape], getattr(torch, dtype), given.device)
        backend = LocalBackend(Weights(folder), input="image", device=given.device, dtype=dtype, batch_size=given.batch)
        measure(backend, given)


KINDS = {"likelihood": ("likelihood",), "generation": ("generation",), "both": ("likelihood", "generation")}


def measure(backend: LocalBackend, given: argparse.Namespace) -> None:
    """Time all ways in turns, and print."""
    clock, naive = Clock(given.device), Naive(backend)
    start = {kind: 1000 * (i + 1) for i, kind in enumerate(KINDS)}  # or an image's features would be known already
    queries = {kind: requests(given.queries + 2, *scorings, start=start[kind]) for kind, scorings in KINDS.items()}
    prompt = backend.prompt_tokens(queries["both"][0])
    introduce(backend, given, prompt)

    asked(backend, queries["both"][:2])  # warm
    checked, backend._checked = backend._checked, set()
    backend._shared.features.clear()
    check, _ = clock(asked, backend, queries["both"][1:2])
    assert backend._checked == checked
    backend._shared.clear()
    prefix, _ = clock(asked, backend, queries["likelihood"][:2])
    spent: dict[str, list[np.ndarray]] = {name: [] for name in (*KINDS, "naive scoring", "naive generation")}
    differs, step, computed = 0.0, backend._batcher.size, 0.0
    for at in range(2, given.queries + 2, step):
        for kind in KINDS:
            before = backend.tokens.computed
            seconds, replies = clock(asked, backend, queries[kind][at : at + step])
            spent[kind].append(seconds / len(replies))
            if kind == "likelihood":
                computed = (backend.tokens.computed - before) / len(replies)
                found = np.array(replies[0].log_probabilities)
        if len(spent["naive scoring"]) < given.naive:
            seconds, scores = clock(naive.score, queries["likelihood"][at])
            spent["naive scoring"].append(seconds)
            spent["naive generation"].append(clock(naive.generate, queries["generation"][at])[0])
            differs = max(differs, float(np.abs(scores - found).max()))
    once = {
        "examples, once a fold": prefix - 2 * np.median(spent["likelihood"], axis=0),
        "check, once a load": check - np.median(spent["both"], axis=0),
    }
    print(f"largest difference between shared and naive log-probabilities: {differs:.1e}")
    times = FOLD * prompt / (prompt - computed + FOLD * computed)
    missed = report(once, spent, times, decides=0 if given.device == "cuda" else 1)
    raise SystemExit(missed and not given.smallest)


def introduce(backend: LocalBackend, given: argparse.Namespace, prompt: int) -> None:
    """Print machine and configuration."""
    machine = torch.cuda.get_device_name() if given.device == "cuda" else _processor()
    versions = f"torch {torch.__version__}, transformers {importlib.metadata.version('transformers')}"
    parameters = sum(p.numel() for p in backend.model.parameters()) / 1e6
    print(
        f"machine: {machine}, {core_count()} cores of {os.cpu_count()}, {torch.get_num_threads()} torch threads, {versions}"
    )
    print(
        f"{given.shape}: {parameters:.1f} M parameters, random, {backend.dtype}; {len(LABELS)} examples, {len(LABELS)} "
        f"labels, prompt of {prompt} tokens, rows of {backend._batcher.size}"
    )


def report(once: dict[str, np.ndarray], spent: dict[str, list[np.ndarray]], times: float, decides: int) -> int:
    """Print stages and ratios; return 1 if a speed-up is below its minimum, by wall (0) or processor time (1)."""
    print(f"{'':28}{'s':>9}{'s of processor time':>22}")
    rows = {name: [seconds] for name, seconds in once.items()}
    rows |= {(n if n.startswith("naive") else f"shared {n}") + ", a query": t for n, t in spent.items()}
    for name, rounds in rows.items():
        wall, busy = np.median(rounds, axis=0)
        spread = f"   ({min(r[1] for r in rounds):.3f} to {max(r[1] for r in rounds):.3f})" if len(rounds) > 1 else ""
        print(f"{name:28}{wall:9.3f}{busy:22.3f}{spread}")
    each = {name: np.median(rounds, axis=0) for name, rounds in spent.items()}
    fold = {kind: once["examples, once a fold"] + FOLD * each[kind] for kind in KINDS}
    scoring, generation = FOLD * each["naive scoring"], FOLD * each["naive generation"]
    checked = fold["likelihood"] + once["check, once a load"]
    ratios = {
        "scoring": (scoring / fold["likelihood"], "likelihood against naive scoring"),
        "from scratch": (generation / fold["likelihood"], f"likelihood against {GENERATED} tokens from scratch"),
        "tokens": (np.full(2, times), "fewer tokens than all prompts have; labels are counted on this side alone"),
        "generation": (
            generation / fold["generation"],
            f"{GENERATED} tokens, none of a label, against {GENERATED} from scratch",
        ),
        "both": ((scoring + generation) / fold["both"], "both at once against both loops"),
        "checked": (scoring / checked, "likelihood against naive scoring, were there but one fold a load"),
    }
    print(f"a fold of {FOLD} queries, examples included, by wall time (by processor time):")
    for name, ((wall, busy), text) in ratios.items():
        wanted = f"; {WANTED[name]:g}x wanted" if name in WANTED else ""
        print(f"  {wall:5.1f}x ({busy:.1f}x) {text}{wanted}")
    naive = FOLD / (scoring + generation)[0]
    print(f"clips per second, both scorings: {1 / each['both'][0]:.2f} shared, {naive:.2f} naive")
    return int(any(ratios[name][0][decides] < least for name, least in WANTED.items()))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
