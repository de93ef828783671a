import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline.encoders.texts import embed_texts, logit_scale
from vlm_audio_pipeline.encoders.vision import BEFORE_PATCHES, CARDS, Vision
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant
from vlm_audio_pipeline_tests.encoders.checkpoints import AIMV2, CLIP, DINOV2, SIGLIP, SIZE


def images(n: int = 3, size: tuple[int, int] = (40, 40)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(n)]


def vision_encoder(model: str, **how) -> Vision:
    return Vision(model=model, rendering="paper", **how)


def direct(model: str, images):
    """Give what the model's own class says of images prepared by its own processor, and the model."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    folder = vision_encoder(model).weights.snapshot()
    net = AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")["pixel_values"]
    assert pixels.shape[-2:] == (SIZE, SIZE)
    tower = net.vision_model if hasattr(net, "text_model") else net
    with torch.no_grad():
        return tower(pixel_values=pixels), net, pixels


@pytest.mark.parametrize(("model", "first"), [(AIMV2, 0), (DINOV2, 1), (CLIP, 1), (SIGLIP, 0)])
def test_vectors_equal_a_direct_forward(hub, model, first):
    hub(model)
    out, *_ = direct(model, images())
    tokens = out.last_hidden_state.numpy()
    assert tokens.shape == (3, first + 16, 32)  # 4 x 4 patches of 8 pixels, and a class token or none
    np.testing.assert_allclose(vision_encoder(model).load()(images()), tokens[:, first:].mean(1), atol=1e-5)
    np.testing.assert_allclose(
        vision_encoder(model, pooling="first_patch").load()(images()), tokens[:, first], atol=1e-5
    )


def test_dinov2_pools_its_class_token(hub):
    hub(DINOV2)
    out, *_ = direct(DINOV2, images())
    np.testing.assert_allclose(vision_encoder(DINOV2, pooling="pooler").load()(images()), out.pooler_output, atol=1e-5)


@pytest.mark.parametrize("model", [CLIP, SIGLIP])
def test_pooled_vectors_of_two_towers_are_those_shared_with_texts(hub, model):
    import torch

    hub(model)
    _, net, pixels = direct(model, images())
    with torch.no_grad():
        shared = net.get_image_features(pixel_values=pixels).pooler_output
    vectors = np.stack(vision_encoder(model, pooling="pooler").load()(images()))
    np.testing.assert_allclose(vectors, shared / shared.norm(dim=-1, keepdim=True), atol=1e-5)


def test_clip_scores_equal_those_of_the_whole_model(hub, tmp_path):
    import torch
    from transformers import AutoTokenizer

    hub(CLIP)
    spec, rows = vision_encoder(CLIP, pooling="pooler"), ResultStore(tmp_path / "results.sqlite")
    texts = ["a spectrogram of rain", "a dog", "sea waves"]
    _, net, pixels = direct(CLIP, images())
    given = AutoTokenizer.from_pretrained(spec.weights.snapshot())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = net(pixel_values=pixels, **given).logits_per_image.softmax(-1).numpy()
    logits = logit_scale(spec, rows) * np.stack(spec.load()(images())) @ embed_texts(spec, texts, rows).T
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), theirs, atol=1e-4)


def test_siglip_scores_equal_those_of_the_whole_model(cache, tmp_path):
    pytest.importorskip("sentencepiece", reason="SigLIP's tokenizer takes sentencepiece")
    import torch
    from transformers import AutoTokenizer

    checkpoints.publish(cache, SIGLIP, checkpoints.siglip_that_reads)
    spec, rows = vision_encoder(SIGLIP, pooling="pooler"), ResultStore(tmp_path / "results.sqlite")
    texts = ["rain", "a dog"]
    _, net, pixels = direct(SIGLIP, images())
    tokenizer = AutoTokenizer.from_pretrained(spec.weights.snapshot())
    given = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        theirs = net(pixel_values=pixels, input_ids=given["input_ids"]).logits_per_image.softmax(-1).numpy()
    logits = logit_scale(spec, rows) * np.stack(spec.load()(images())) @ embed_texts(spec, texts, rows).T
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), theirs, atol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_without_sentencepiece_siglip_says_what_to_install(hub):
    hub(SIGLIP)
    with pytest.raises(NotAvailable, match="pip install sentencepiece"):
        vision_encoder(SIGLIP, pooling="pooler").load_text()


@pytest.mark.parametrize("model", [AIMV2, DINOV2, CLIP, SIGLIP])
def test_neither_batch_nor_order_matters(hub, model):
    hub(model)
    eight = images(8)
    assert_batch_invariant(vision_encoder(model).load(), eight, vision_encoder(model, batch_size=1).load())


@pytest.mark.parametrize(
    ("model", "pooling"), [(AIMV2, "mean"), (DINOV2, "pooler"), (CLIP, "pooler"), (SIGLIP, "pooler")]
)
def test_bfloat16_is_close(hub, model, pooling):
    hub(model)
    exact, short = (
        np.stack(vision_encoder(model, pooling=pooling, dtype=d).load()(images())) for d in ("float32", "bfloat16")
    )
    cosine = (exact * short).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(short, axis=1)
    assert cosine.min() > 0.99 and short.dtype == np.float32


def test_blank_and_oblong_images_are_borne(hub):
    hub(AIMV2)
    odd = [Image.new("RGB", (40, 40)), Image.new("RGB", (1, 1), "white"), *images(1, (90, 30))]
    assert np.isfinite(np.stack(vision_encoder(AIMV2).load()(odd))).all()


def test_only_two_towers_pooled_can_read(hub):
    for model in (AIMV2, CLIP):
        hub(model)
    assert vision_encoder(CLIP, pooling="pooler").has_text_side
    assert not vision_encoder(CLIP).has_text_side and not vision_encoder(AIMV2, pooling="pooler").has_text_side
    for spec in (vision_encoder(CLIP), vision_encoder(AIMV2, pooling="pooler")):
        with pytest.raises(VlmAudioError, match="has no text encoder"):
            spec.load_text()


def test_weights_that_are_not_here_may_have_a_text_side(cache):
    spec = vision_encoder(SIGLIP, pooling="pooler")
    assert spec.has_text_side
    with pytest.raises(NotAvailable, match="weights of google/siglip-base-patch16-224 missing"):
        spec.load_text()


def test_a_model_without_a_pooled_vector_says_so(hub):
    hub(AIMV2)
    with pytest.raises(
        VlmAudioError, match=r"`pooling` must be mean or first_patch for apple/aimv2.*use `pooling: mean`"
    ):
        vision_encoder(AIMV2, pooling="pooler").load()(images(1))


def legacy(folder):
    """Write AIMv2 as Apple first published it: a flat configuration and other names of tensors."""
    from safetensors.torch import load_file, save_file

    checkpoints.checkpoint(AIMV2)(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "aimv2", "architectures": ["AIMv2Model"], "auto_map": {"AutoModel": "modeling.AIMv2Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    old = {f"trunk.{k.replace('encoder.layers', 'blocks').replace('attention', 'attn')}": v for k, v in tensors.items()}
    save_file(old, folder / "model.safetensors", {"format": "pt"})


def test_the_old_layout_of_aimv2_is_refused_instead_of_being_random(cache):
    commit = checkpoints.publish(cache, AIMV2, legacy)
    with pytest.raises(WrongWeights, match=rf"{AIMV2} \(revision {commit}\) must hold every tensor .*pin a `revision`"):
        vision_encoder(AIMV2).load()


def test_another_kind_of_model_is_refused(cache):
    def bert(folder):
        for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
            (folder / name).write_text('{"model_type": "bert"}')

    checkpoints.publish(cache, "google/bert", bert)
    with pytest.raises(VlmAudioError, match=r"kind vision must be one of aimv2, .*, got google/bert, a bert"):
        vision_encoder("google/bert").load()


def test_stages_look_at_the_rendering_and_its_controls():
    spec = vision_encoder(AIMV2)
    assert spec.takes_images and spec.sample_rate_hz == 0
    assert Input("spectrograms", "paper") in spec.stages("e")[0].inputs
    assert Input("spectrograms", "paper__blank") in spec.controlled_stage("e", "blank").inputs
    assert vision_encoder(AIMV2, pooling="first_patch").result_key("x") != spec.result_key("x")
    assert Vision(model=AIMV2, rendering="other").result_key("x") == spec.result_key("x")


@pytest.mark.parametrize(
    ("model", "licence"), [(AIMV2, "apple-amlr"), (CLIP, "MIT"), (DINOV2, "Apache-2.0"), ("a/b", "")]
)
def test_cards(model, licence):
    assert vision_encoder(model).card.licence == licence
    assert len(CARDS) == 4 + 1 and set(BEFORE_PATCHES) >= {"aimv2", "dinov2", "clip", "siglip"}
