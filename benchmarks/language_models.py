"""Measure the speed-up by a shared prefix and a tree of labels for few-shot requests of a local language model.

A request contains ten example images with their labels, then the query. All queries of a fold begin with the same examples.
Three ways are compared:

- shared: `LocalBackend` as in the pipeline: the examples once, then each query with all labels in one pass;
- naive scoring: for each query the whole prompt once, then a batch of all labels on its cache (a fair baseline: ten
  forward passes, one per label, would be slower);
- naive generation: `model.generate` of 8 tokens from the whole prompt.

All process the same requests with the same weights, which are random (their values do not change the time), and alternate
within one run. The result is the time of a fold of 80 queries: the examples once, and 80 times one query. `--queries` of the 80
are measured, and `--naive` of them with the naive loops; the rest is extrapolated. After loading, the backend checks once with
a separate forward pass that sharing gives correct results; the time of this check is printed separately.

If other programs use the CPU, the wall time includes their work, and the CPU time includes waiting for other threads. In this
case, use `--threads 1` and compare the CPU time.

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
MIN_SPEED_UPS = {"scoring": 7.0, "from scratch": 6.0, "tokens": 9.0}

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"image": 96, "vision": 64, "vision_layers": 2, "text": 128, "layers": 2, "heads": 4, "mlp": 256, "vocabulary": 0},
    "mid": {"image": 384, "vision": 256, "vision_layers": 6, "text": 512, "layers": 8, "heads": 8, "mlp": 1024, "vocabulary": 0},
    "janus-pro-1b": {
        "image": 384, "vision": 1024, "vision_layers": 24, "text": 2048, "layers": 24, "heads": 16, "mlp": 5632,
        "vocabulary": 102400,
    },
}  # fmt: skip
"""vocabulary 0: only the tokens of the question. janus-pro-1b has the sizes in config.json of deepseek-community/Janus-Pro-1B."""

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|User|>: {% else %}<|Assistant|>: {% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}\n<image_placeholder>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if not loop.last or add_generation_prompt %}{% if m['role'] == 'user' %}\n\n{% else %}<|end|>{% endif %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


def tokenizer(vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer and fill it up to a vocabulary size."""
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
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([QUESTION, *(f" {label}" for label in LABELS)] * 3, trainer)
    state = json.loads(bpe.to_str())
    pieces = state["model"]["vocab"]
    pieces.update({f"<filler {i}>": i for i in range(len(pieces), vocabulary)})
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens={"image_token": special[2], "boi_token": special[3], "eoi_token": special[4]},
    )


def checkpoint(folder: Path, shape: dict[str, int], dtype: torch.dtype, device: str) -> None:
    """Write a Janus with the sizes of a shape and random weights."""
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
    """Return noise instead of a spectrogram, 640 x 480, as a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (480, 640, 3), np.uint8)).save(file, "PNG")
    return ImagePart(file.getvalue(), "image/png", str(seed))


def requests(n: int, *scorings: Any, start: int = 1000) -> list[Request]:
    """Return n requests: ten examples, one per class, then a query that differs between requests."""
    examples = [image(i) for i in range(len(LABELS))]
    few_shot_requests = []
    for query in range(n):
        turns = [Message("user", (QUESTION, examples[0]))]
        for label, following in zip(LABELS, [*examples[1:], image(start + query)], strict=True):
            turns += [Message("assistant", (label,)), Message("user", (following,))]
        few_shot_requests.append(Request(tuple(turns), LABELS, frozenset(scorings), Sampling(max_tokens=GENERATED)))
    return few_shot_requests


class NaiveLoops:
    """The two naive loops, with the model and processor of the backend."""

    def __init__(self, backend: LocalBackend):
        self.model, self.processor, self.device = backend.model, backend.conversation.processor, backend.device
        self.label_sequences = backend.conversation.prompt(requests(1)[0]).label_sequences

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
        """Return the log-probabilities of the labels: the prompt once, then the labels as a padded batch on copies of its cache."""
        inputs = self.inputs(request)
        out = self.model(
            input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"], use_cache=True, logits_to_keep=1
        )
        first = torch.log_softmax(out.logits[0, -1].float(), -1)
        longest = max(map(len, self.label_sequences))
        ids = torch.tensor([[*a, *[0] * (longest - len(a))] for a in self.label_sequences], device=self.device)
        mask = torch.tensor(
            [[1.0] * len(a) + [0.0] * (longest - len(a)) for a in self.label_sequences], device=self.device
        )
        cache = out.past_key_values
        cache.batch_repeat_interleave(len(self.label_sequences))
        logits = self.model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True).logits
        after = torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None])[..., 0]
        return (first[ids[:, 0]] + (after * mask[:, 1:]).sum(1)).cpu().numpy()

    def generate(self, request: Request) -> int:
        """Generate from the whole prompt; return the number of tokens."""
        inputs = self.inputs(request)
        out = self.model.generate(**inputs, max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False)
        return out.shape[1]


class Clock:
    """Measures wall time and CPU time of this process, s. The device is idle at the start and the end of a measurement."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self, call: Any, *args: Any) -> tuple[np.ndarray, Any]:
        """Call a function; return both times and the result."""
        self.wait()
        started = self.now()
        result = call(*args)
        self.wait()
        return self.now() - started, result

    def now(self) -> np.ndarray:
        """Return wall and CPU time."""
        return np.array([time.perf_counter(), time.process_time()])

    def wait(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def ask_all(backend: LocalBackend, requests_to_send: list[Request]) -> list[Reply]:
    """Send requests; return the replies in order."""
    replies: dict[int, Reply] = {}
    backend.ask(requests_to_send, replies.__setitem__)
    for reply in replies.values():  # random weights never end a response
        is_at_limit = reply.outcome == "truncated" and reply.usage.output_tokens == GENERATED
        assert reply.outcome == "answered" or is_at_limit, reply
    return [replies[i] for i in range(len(requests_to_send))]


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
    arguments = options.parse_args()
    if arguments.smallest:
        arguments.shape, arguments.queries, arguments.naive, arguments.batch = "tiny", 2, 1, 2
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dtype = arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32")
    os.environ["HF_HUB_OFFLINE"] = "1"

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        checkpoint(Path(folder), SHAPES[arguments.shape], getattr(torch, dtype), arguments.device)
        backend = LocalBackend(
            Weights(folder), input="image", device=arguments.device, dtype=dtype, batch_size=arguments.batch
        )
        measure(backend, arguments)


KINDS = {"likelihood": ("likelihood",), "generation": ("generation",), "both": ("likelihood", "generation")}


def measure(backend: LocalBackend, arguments: argparse.Namespace) -> None:
    """Measure all ways in turn, and print."""
    clock, naive = Clock(arguments.device), NaiveLoops(backend)
    # Each kind has its own images, because image features are cached.
    start = {kind: 1000 * (i + 1) for i, kind in enumerate(KINDS)}
    queries = {kind: requests(arguments.queries + 2, *scorings, start=start[kind]) for kind, scorings in KINDS.items()}
    prompt = backend.prompt_tokens(queries["both"][0])
    print_configuration(backend, arguments, prompt)

    ask_all(backend, queries["both"][:2])  # warm up
    checked, backend._checked_piece_counts = backend._checked_piece_counts, set()
    backend._shared.image_features.clear()
    check, _ = clock(ask_all, backend, queries["both"][1:2])
    assert backend._checked_piece_counts == checked
    backend._shared.clear()
    examples_time, _ = clock(ask_all, backend, queries["likelihood"][:2])
    times_by_way: dict[str, list[np.ndarray]] = {name: [] for name in (*KINDS, "naive scoring", "naive generation")}
    max_difference, step, computed = 0.0, backend._batcher.size, 0.0
    for at in range(2, arguments.queries + 2, step):
        for kind in KINDS:
            before = backend.token_counts()["tokens_computed"]
            seconds, replies = clock(ask_all, backend, queries[kind][at : at + step])
            times_by_way[kind].append(seconds / len(replies))
            if kind == "likelihood":
                computed = (backend.token_counts()["tokens_computed"] - before) / len(replies)
                log_probabilities = np.array(replies[0].log_probabilities)
        if len(times_by_way["naive scoring"]) < arguments.naive:
            seconds, scores = clock(naive.score, queries["likelihood"][at])
            times_by_way["naive scoring"].append(seconds)
            times_by_way["naive generation"].append(clock(naive.generate, queries["generation"][at])[0])
            max_difference = max(max_difference, float(np.abs(scores - log_probabilities).max()))
    once = {
        "examples, once per fold": examples_time - 2 * np.median(times_by_way["likelihood"], axis=0),
        "check, once per load": check - np.median(times_by_way["both"], axis=0),
    }
    print(f"maximum difference between shared and naive log-probabilities: {max_difference:.1e}")
    token_ratio = FOLD * prompt / (prompt - computed + FOLD * computed)
    is_too_slow = report(once, times_by_way, token_ratio, clock_index=0 if arguments.device == "cuda" else 1)
    raise SystemExit(is_too_slow and not arguments.smallest)


def print_configuration(backend: LocalBackend, arguments: argparse.Namespace, prompt: int) -> None:
    """Print machine and configuration."""
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else _processor()
    versions = f"torch {torch.__version__}, transformers {importlib.metadata.version('transformers')}"
    parameters = sum(p.numel() for p in backend.model.parameters()) / 1e6
    print(
        f"machine: {machine}, {core_count()} cores of {os.cpu_count()}, {torch.get_num_threads()} torch threads, {versions}"
    )
    print(
        f"{arguments.shape}: {parameters:.1f} M parameters, random, {backend.dtype}; {len(LABELS)} examples, {len(LABELS)} "
        f"labels, prompt of {prompt} tokens, rows of {backend._batcher.size}"
    )


def report(
    once: dict[str, np.ndarray], times_by_way: dict[str, list[np.ndarray]], token_ratio: float, clock_index: int
) -> int:
    """Print stages and ratios; return 1 if a speed-up is below its minimum, by wall (0) or CPU time (1)."""
    print(f"{'':28}{'s':>9}{'s of CPU time':>22}")
    rows = {name: [seconds] for name, seconds in once.items()}
    rows |= {(n if n.startswith("naive") else f"shared {n}") + ", per query": t for n, t in times_by_way.items()}
    for name, rounds in rows.items():
        wall, cpu = np.median(rounds, axis=0)
        spread = f"   ({min(r[1] for r in rounds):.3f} to {max(r[1] for r in rounds):.3f})" if len(rounds) > 1 else ""
        print(f"{name:28}{wall:9.3f}{cpu:22.3f}{spread}")
    each = {name: np.median(rounds, axis=0) for name, rounds in times_by_way.items()}
    fold = {kind: once["examples, once per fold"] + FOLD * each[kind] for kind in KINDS}
    scoring, generation = FOLD * each["naive scoring"], FOLD * each["naive generation"]
    checked = fold["likelihood"] + once["check, once per load"]
    ratios = {
        "scoring": (scoring / fold["likelihood"], "likelihood against naive scoring"),
        "from scratch": (generation / fold["likelihood"], f"likelihood against {GENERATED} tokens from scratch"),
        "tokens": (
            np.full(2, token_ratio),
            "fewer tokens than all prompts have; labels are counted only for the shared way",
        ),
        "generation": (
            generation / fold["generation"],
            f"{GENERATED} tokens outside the labels, against {GENERATED} from scratch",
        ),
        "both": ((scoring + generation) / fold["both"], "both at once against both loops"),
        "checked": (scoring / checked, "likelihood against naive scoring, with one fold per load"),
    }
    print(f"a fold of {FOLD} queries, examples included, by wall time (by CPU time):")
    for name, ((wall, cpu), text) in ratios.items():
        target = f"; target: {MIN_SPEED_UPS[name]:g}x" if name in MIN_SPEED_UPS else ""
        print(f"  {wall:5.1f}x ({cpu:.1f}x) {text}{target}")
    naive = FOLD / (scoring + generation)[0]
    print(f"clips per second, both scorings: {1 / each['both'][0]:.2f} shared, {naive:.2f} naive")
    return int(any(ratios[name][0][clock_index] < min_speed_up for name, min_speed_up in MIN_SPEED_UPS.items()))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
