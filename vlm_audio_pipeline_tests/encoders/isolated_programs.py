"""Source texts of programs that run in the environment of laion_clap and import nothing of this project.

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
