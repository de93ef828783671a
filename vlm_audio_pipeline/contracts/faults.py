"""Points in the code where a test can kill the process, as a power cut or the out-of-memory killer would.

Set `VLM_AUDIO_FAULT=<point>`, or `<point>:<n>` for the n-th time the point is reached. The points:

- `download`: a chunk of a download is on disk
- `results:<kind>`: a batch is computed and not yet stored (`inspection`, `vector`, `response`; `scratch` for images)
- `image`: one image is rendered
- `batch:<step>`: of a batch of requests, the intent is on disk (`intent`), the input file is uploaded (`file`), the server has
  the batch and its id is not on disk (`created`), the id is on disk (`submitted`), the responses are not stored yet (`results`)
- `stage:<asset>`: a step is computed and not yet written
- `partition_file`: a partition file is written under its temporary name
- `catalogue`: the catalogue is built under its temporary name
"""

import itertools
import os
import signal

_POINT, _, _COUNT = os.environ.get("VLM_AUDIO_FAULT", "").rpartition(":")
if not _COUNT.isdigit():  # no number: a name such as `results:vector` contains a colon itself
    _POINT, _COUNT = os.environ.get("VLM_AUDIO_FAULT", ""), "1"
_calls = itertools.count(1)  # atomic, so that threads never share a number


def kill_point(name: str) -> None:
    """Kill this process by SIGKILL if `VLM_AUDIO_FAULT` names this point and this number of calls; otherwise do nothing."""
    if name == _POINT and next(_calls) == int(_COUNT):
        os.kill(os.getpid(), signal.SIGKILL)
