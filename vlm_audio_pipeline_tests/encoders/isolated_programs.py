"""Source texts of programs that run in the environments of laion_clap and ms_clap, and import nothing of this project.

`worker` is the path of the worker; only its way to import laion-clap without torchvision is used.
"""

OPENING = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("worker", {worker!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
import numpy as np, torch
with worker.stub_training_packages():
    import laion_clap
"""

WRITE = (
    OPENING
    + """
# a random checkpoint in the authors' format: a dict with a name and a state_dict whose keys begin with "module."
torch.manual_seed(0)
state = laion_clap.CLAP_Module(enable_fusion=False, device="cpu").model.state_dict()
for key, value in state.items():
    if "audio_branch.layers" in key and key.endswith("weight") and value.ndim == 2:
        value.mul_(4)  # with its initial weights, the network gives nearly equal vectors
    elif key.endswith("running_var"):
        value.uniform_(0.5, 1.5)
    elif key.endswith("running_mean") or (value.ndim == 1 and key.endswith("bias") and "branch" in key):
        value.normal_(std=0.1)
    elif "projection" in key and key.endswith("bias"):
        value.normal_(std=0.5)
state["logit_scale_a"].fill_(2.5)
state = {{"module." + k: (v.half().float() if v.is_floating_point() else v) for k, v in state.items()}}
state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
torch.save({{"epoch": np.int64(3), "best": np.float64(0.9), "name": "random", "state_dict": state}}, {checkpoint!r})
"""
)

CALL = (
    OPENING
    + """
# the calls of the package, as in its README
module = laion_clap.CLAP_Module(enable_fusion=False, device="cpu")
module.load_ckpt({checkpoint!r}, verbose=False)
with np.load({clips!r}) as clips:
    audio = [clips[name] for name in clips.files]
np.savez({answer!r}, audio=module.get_audio_embedding_from_data(audio), text=module.get_text_embedding({texts!r}),
         alone=module.get_audio_embedding_from_data(audio[:1]), numpy=np.__version__)
"""
)

MS_CLAP_OPENING = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("worker", {worker!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
import numpy as np, torch
"""

MS_CLAP_WRITE = (
    MS_CLAP_OPENING
    + """
torch.manual_seed(0)
network = worker._make_network({tokenizer!r})
state = network.state_dict()
for key, value in state.items():
    if "htsat.layers" in key and key.endswith("weight") and value.ndim == 2:
        value.mul_(4)  # with its initial weights, the network gives nearly equal vectors
    elif key.endswith("running_var"):
        value.uniform_(0.5, 1.5)
    elif key.endswith("running_mean") or (value.ndim == 1 and key.endswith("bias")):
        value.normal_(std=0.1)
state["logit_scale"].fill_(2.5)
torch.save({{"model": state}}, {checkpoint!r})
"""
)

MS_CLAP_CALL = """
import sys, types
import numpy as np, torch, transformers
# The wrapper reads recordings with torchaudio; it gets arrays instead.
for name in ("torchaudio", "torchaudio.transforms"):
    sys.modules[name] = types.ModuleType(name)
from msclap import CLAP
with np.load({clips!r}) as clips:
    audio = {{name: torch.from_numpy(clips[name])[None] for name in clips.files}}
wrapper = CLAP({checkpoint!r}, version="2023", use_cuda=False)
wrapper.read_audio = lambda name, resample=True: (audio[name], 44100)
unit = lambda vectors: (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()
np.savez({answer!r}, audio=unit(wrapper.get_audio_embeddings(list(audio))), text=unit(wrapper.get_text_embeddings({texts!r})))
"""

LOUDNESS_WORKER = """
import json, sys
import numpy as np
sys.stdin.readline()
print(json.dumps({"logit_scale": 2.0}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    with np.load(request["clips"]) as clips:
        levels = [np.sqrt(np.mean(np.square(clips[f"arr_{i}"]))) for i in range(len(clips))]
    vectors = np.array([[level, 1] for level in levels], np.float32)
    np.save(request["vectors"], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    print(json.dumps({"done": len(vectors)}), flush=True)
"""
"""A worker in the place of those of laion_clap and ms_clap, which need their environments: a vector is the loudness of a clip, and 1."""
