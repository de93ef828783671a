"""A key-value cache that is written in place, so that a shared prefix is never copied."""

from typing import Any

SPARE_TOKENS = 1024
"""Number of extra tokens for which a new buffer has space."""


def new_cache() -> Any:
    """Return an empty cache of transformers whose layers append in place and can be cropped."""
    from transformers.cache_utils import Cache, DynamicLayer

    class BufferLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not followed
        used_tokens = 0
        keys: Any
        values: Any

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            end = self.used_tokens + key_states.shape[-2]
            self.keys = self._append(self.keys, key_states, end)
            self.values = self._append(self.values, value_states, end)
            self.used_tokens = end
            return self.keys[:, :, :end], self.values[:, :, :end]

        def _append(self, buffer: Any, states: Any, end: int) -> Any:
            if buffer.ndim != states.ndim or buffer.shape[-2] < end:
                larger = states.new_empty(*states.shape[:-2], end + SPARE_TOKENS, states.shape[-1])
                if self.used_tokens:
                    larger[:, :, : self.used_tokens] = buffer[:, :, : self.used_tokens]
                buffer = larger
            buffer[:, :, self.used_tokens : end] = states
            return buffer

        def get_seq_length(self) -> int:
            return self.used_tokens

        def crop(self, tokens_to_remove: int) -> None:
            self.used_tokens -= abs(tokens_to_remove)

    return Cache(layer_class_to_replicate=BufferLayer)


def can_share_prefix(config: Any) -> bool:
    """Return whether every layer of a model keeps the keys and values of every token, so that its cache can be cropped."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
