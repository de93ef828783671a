"""How rows are computed: batch by batch over this machine's cores or GPU, resumably.

What belongs here: scheduling of work whose results go to the row store. What does not: what the work is.
"""

from vlm_audio_pipeline.engines.local import Failure, cores, map_rows

__all__ = ["Failure", "cores", "map_rows"]
