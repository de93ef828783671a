import json
import sys

import numpy as np
import pytest
from PIL import Image

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline.encoders.texts import embed_texts
from vlm_audio_pipeline.encoders.vision import CARDS, PREFIX_TOKENS, Vision
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant
from vlm_audio_pipeline_tests.encoders.checkpoints import AIMV2, AIMV2_NATIVE, CLIP, DINOV2, SIGLIP, SIZE


def images(n: int = 3, size: tuple[int, int] = (40, 40)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(n)]


def vision_encoder(model: str, **how) -> Vision:
    return Vision(model=model, rendering="paper", **how)


def direct_forward(model: str, images):
    """Return the output of the model class for images prepared by its processor, the model, and the pixels."""
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
    out, *_ = direct_forward(model, images())
    tokens = out.last_hidden_state.numpy()
    assert tokens.shape == (3, first + 16, 32)  # 4 x 4 patches of 8 pixels, with or without a class token
    np.testing.assert_allclose(vision_encoder(model).load()(images()), tokens[:, first:].mean(1), atol=1e-5)
    np.testing.assert_allclose(
        vision_encoder(model, pooling="first_patch").load()(images()), tokens[:, first], atol=1e-5
    )


def test_the_cls_vector_of_can_vlms_hear_is_position_0_of_the_whole_image(hub):
    """Its plugin takes `last_hidden_state[0, 0]` of the model `-native`, one image at a time."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    hub(AIMV2_NATIVE)
    spec = vision_encoder(AIMV2_NATIVE, pooling="first_patch")
    folder = spec.weights.snapshot()
    processor, net = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    wide, tall = images(1, (64, 48))[0], images(1, (40, 56))[0]
    vectors = spec.load()([wide, tall])
    for image, vector, patches in ((wide, vectors[0], 8 * 6), (tall, vectors[1], 5 * 7)):
        with torch.no_grad():
            hidden = net(**processor(images=image, return_tensors="pt")).last_hidden_state
        assert hidden.shape[1] == patches, "every part of the image is in a patch"
        np.testing.assert_allclose(vector, hidden[0, 0], atol=1e-5)


def test_dinov2_pools_the_class_token(hub):
    hub(DINOV2)
    out, *_ = direct_forward(DINOV2, images())
    np.testing.assert_allclose(vision_encoder(DINOV2, pooling="pooler").load()(images()), out.pooler_output, atol=1e-5)


@pytest.mark.parametrize("model", [CLIP, SIGLIP])
def test_pooled_vectors_of_two_tower_models_are_in_the_space_of_texts(hub, model):
    import torch

    hub(model)
    _, net, pixels = direct_forward(model, images())
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
    _, net, pixels = direct_forward(CLIP, images())
    inputs = AutoTokenizer.from_pretrained(spec.weights.snapshot())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = net(pixel_values=pixels, **inputs).logits_per_image.softmax(-1).numpy()
    text_vectors, scale = embed_texts(spec, texts, rows, LocalEngine())
    logits = scale * np.stack(spec.load()(images())) @ text_vectors.T
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-4)


def test_siglip_scores_equal_those_of_the_whole_model(cache, tmp_path):
    import torch
    from transformers import AutoTokenizer

    checkpoints.publish(cache, SIGLIP, checkpoints.siglip_with_tokenizer)
    spec, rows = vision_encoder(SIGLIP, pooling="pooler"), ResultStore(tmp_path / "results.sqlite")
    texts = ["rain", "a dog"]
    _, net, pixels = direct_forward(SIGLIP, images())
    tokenizer = AutoTokenizer.from_pretrained(spec.weights.snapshot())
    inputs = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = net(pixel_values=pixels, input_ids=inputs["input_ids"]).logits_per_image.softmax(-1).numpy()
    text_vectors, scale = embed_texts(spec, texts, rows, LocalEngine())
    logits = scale * np.stack(spec.load()(images())) @ text_vectors.T
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-4)


def test_siglip_without_sentencepiece_reports_what_to_install(hub, monkeypatch):
    hub(SIGLIP)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # how Python marks a package that cannot be imported
    with pytest.raises(NotAvailable, match="pip install sentencepiece"):
        vision_encoder(SIGLIP, pooling="pooler").load_text_encoder()


@pytest.mark.parametrize("model", [AIMV2, DINOV2, CLIP, SIGLIP])
def test_vectors_do_not_depend_on_the_batch_or_its_order(hub, model):
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


def test_blank_and_oblong_images_give_finite_vectors(hub):
    hub(AIMV2)
    unusual = [Image.new("RGB", (40, 40)), Image.new("RGB", (1, 1), "white"), *images(1, (90, 30))]
    assert np.isfinite(np.stack(vision_encoder(AIMV2).load()(unusual))).all()


def test_only_pooled_two_tower_models_embed_texts(hub):
    for model in (AIMV2, CLIP):
        hub(model)
    assert vision_encoder(CLIP, pooling="pooler").has_text_encoder
    assert not vision_encoder(CLIP).has_text_encoder and not vision_encoder(AIMV2, pooling="pooler").has_text_encoder
    for spec in (vision_encoder(CLIP), vision_encoder(AIMV2, pooling="pooler")):
        with pytest.raises(VlmAudioError, match="has no text encoder"):
            spec.load_text_encoder()


def test_missing_weights_may_have_a_text_encoder(cache):
    spec = vision_encoder(SIGLIP, pooling="pooler")
    assert spec.has_text_encoder
    with pytest.raises(NotAvailable, match="weights of google/siglip-base-patch16-224 missing"):
        spec.load_text_encoder()


def test_a_model_without_a_pooled_vector_is_refused(hub):
    hub(AIMV2)
    with pytest.raises(VlmAudioError, match=r"apple/aimv2.* has no pooled vector, .*use `pooling: mean`"):
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


def test_the_old_layout_of_aimv2_is_refused(cache):
    commit = checkpoints.publish(cache, AIMV2, legacy)
    with pytest.raises(
        WrongWeights, match=rf"{AIMV2} \(revision {commit}\) do not contain every tensor .*pin a `revision`"
    ):
        vision_encoder(AIMV2).load()


def test_another_kind_of_model_is_refused(cache):
    def bert(folder):
        for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
            (folder / name).write_text('{"model_type": "bert"}')

    checkpoints.publish(cache, "google/bert", bert)
    with pytest.raises(
        VlmAudioError, match=r"kind vision must have one of the types aimv2, .*, got google/bert of type bert"
    ):
        vision_encoder("google/bert").load()


def test_stages_use_the_rendering_and_its_controls():
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
    assert len(CARDS) == 4 + 1 and set(PREFIX_TOKENS) >= {"aimv2", "dinov2", "clip", "siglip"}


class CreatesAFile:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("damage", ["code", "cut", "empty", "text"])
def test_a_damaged_pickle_is_refused_without_advice_to_run_it(tmp_path, monkeypatch, damage):
    """torch advises `weights_only=False`, which would run the code."""
    import torch

    folder = tmp_path / "model"
    folder.mkdir()
    checkpoints.checkpoint(DINOV2)(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2), "b": CreatesAFile(tmp_path / "done")}, path)
    if damage != "code":
        path.write_bytes({"cut": path.read_bytes()[:300], "empty": b"", "text": b"not a pickle"}[damage])
    with pytest.raises(WrongWeights, match=r"download it again") as error:
        vision_encoder(str(folder)).load()
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "done").exists()
