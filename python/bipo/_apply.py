"""Steers a model of transformers: hooks add the vector to the output of decoder blocks, at the tokens that the vector names."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ContextManager, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from ._errors import BipoError, needed
from ._places import Message, Positions, beginning, common, words_of
from ._vector import OPERATIONS, SPANS, SteeringVector, load

if TYPE_CHECKING:
    import torch


# What a decoder of transformers calls its cache, from version 5.24 on and before it.
CACHES = ("cache", "past_key_values")


def apply(
    model: torch.nn.Module,
    vector: Union[SteeringVector, str, os.PathLike[str]],
    magnitude: float = 1.0,
    *,
    positions: Optional[str] = None,
    spans: Optional[str] = None,
    operation: Optional[str] = None,
    prompt_length: Union[int, Sequence[int], None] = None,
    tokenizer: Any = None,
    messages: Optional[Sequence[Message]] = None,
    system: Optional[str] = None,
) -> ContextManager[torch.nn.Module]:
    """Adds `magnitude` times the vector to the outputs of its layers, inside a `with` block.

    With the operation `ablate`, of the file or of `operation`, the part of the output that lies along the vector is taken out,
    `magnitude` times; 1 takes out all of it.

    The vector is added at the tokens that it was learned for, unless `positions` or `spans` say otherwise. What a call without
    a cache is given is the prompt, and what follows behind the cache is the response, as `generate` has it. `prompt_length`
    says how many tokens the prompt has (of each row, padding not counted) where a call is given a prompt with its response.

    Some rules need more. `first:N`, and `last:N` with N above 1, count from what every prompt of the chat template begins with:
    pass `tokenizer`, and `system` if there is a system prompt. Spans need `tokenizer` and the `messages` of the prompt.

    Several `with` blocks inside each other add several vectors. Raises BipoError where the vector does not fit the model, or
    where the rule cannot be followed.
    """
    needed("torch", "bipo.apply")
    if not isinstance(vector, SteeringVector):
        vector = load(vector)
    if not math.isfinite(magnitude):
        raise BipoError(f"magnitude {magnitude}: expected a finite number")
    if spans is None and positions is None:
        spans = vector.spans
    if spans not in (None, *SPANS):
        raise BipoError(f"spans {spans!r}: expected user or assistant")
    operation = vector.operation if operation is None else operation
    if operation not in OPERATIONS:
        raise BipoError(f"operation {operation!r}: expected add or ablate")
    decoder, blocks = blocks_of(model)
    check_model(model, blocks, vector)
    rule = Positions.of(vector.positions if positions is None else positions)
    places = None
    if not rule.is_everywhere or spans is not None:
        places = Places(decoder, rule, prompt_length)
        if rule.needs_template:
            if tokenizer is None:
                raise BipoError("these positions count from what every prompt of the chat template begins with: pass tokenizer=")
            places.beginning, places.bos = beginning(tokenizer, system), tokenizer.bos_token_id
        if spans is not None:
            if tokenizer is None or messages is None:
                raise BipoError(f"the vector is added in messages of the {spans} alone: pass tokenizer= and messages=")
            front = [{"role": "system", "content": system}] if system and messages[0]["role"] != "system" else []
            places.words = words_of(tokenizer, [*front, *messages], spans)
            places.steers_response = rule.response and spans == "assistant"
    changes = {layer: Change(v, magnitude, operation) for layer, v in vector.torch().items()}
    return steered(model, decoder, blocks, changes, places)


@contextmanager
def steered(
    model: torch.nn.Module, decoder: torch.nn.Module, blocks: Any, changes: Dict[int, Change], places: Optional[Places]
) -> Iterator[torch.nn.Module]:
    hooks: List[Any] = []
    try:
        if places is not None:
            hooks.append(decoder.register_forward_pre_hook(places.see, with_kwargs=True))
        for layer, change in changes.items():
            hooks.append(blocks[layer].register_forward_hook(changing(change, places)))
        yield model
    finally:
        for hook in hooks:
            hook.remove()


class Change:
    """What is done to the output of a block."""

    def __init__(self, v: torch.Tensor, magnitude: float, operation: str):
        self.magnitude, self.is_addition = magnitude, operation == "add"
        self.v = v * magnitude if self.is_addition else v / v.norm().clamp_min(1e-30)
        self.at: Dict[torch.device, torch.Tensor] = {}

    def of(self, hidden: torch.Tensor) -> torch.Tensor:
        """Computed in f32 and rounded once, as bipo does it. `hidden` `(B, T, H)`"""
        import torch

        if hidden.device not in self.at:
            self.at[hidden.device] = self.v.to(hidden.device)
        v, wide = self.at[hidden.device], hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        changed = wide + v if self.is_addition else wide - self.magnitude * (wide @ v.to(wide.dtype))[..., None] * v
        return changed.to(hidden.dtype)


def changing(change: Change, places: Optional[Places]) -> Any:
    """A hook that changes a block's output."""
    import torch

    def hook(module: Any, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = change.of(hidden)
        if places is not None:
            changed = torch.where(places.of(hidden)[..., None], changed, hidden)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


class Places:
    """Which tokens of each call are steered: seen by a hook before the decoder runs, asked for by those on its blocks."""

    def __init__(self, decoder: torch.nn.Module, rule: Positions, prompt_length: Union[int, Sequence[int], None]):
        self.rule = rule
        self.signature = inspect.signature(decoder.forward)
        if not any(name in self.signature.parameters for name in CACHES):
            raise BipoError(
                f"{type(decoder).__name__} takes no cache that bipo knows, so that a prompt cannot be told from its response: add "
                "the vector at all positions"
            )
        self.others = [p.name for p in self.signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        self.default_cache = bool(getattr(getattr(decoder, "config", None), "use_cache", True))
        self.prompt_length = prompt_length
        self.beginning: List[int] = []
        self.bos: Optional[int] = None
        self.words: Optional[Tuple[List[int], List[bool]]] = None
        self.steers_response = rule.response
        self.prompt_ends: Optional[List[int]] = None
        self.mask: Optional[torch.Tensor] = None

    def of(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.mask is None or self.mask.shape != hidden.shape[:2]:
            raise BipoError("a block ran without its model, so that the places of its tokens are not known: call the model")
        return self.mask.to(hidden.device)

    def see(self, decoder: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """Makes the mask `(B, T)` of a call of the decoder."""
        import torch

        given = self.signature.bind_partial(*args, **kwargs).arguments
        for name in self.others:
            given = {**given, **given.pop(name, {})}
        ids: Any = given.get("input_ids")
        inputs: Any = given.get("inputs_embeds") if ids is None else ids
        rows, count = inputs.shape[:2]
        cache = next((given[name] for name in CACHES if given.get(name) is not None), None)
        past = 0 if cache is None else int(cache.get_seq_length())
        first, last = real_tokens(given.get("attention_mask"), rows, past + count)
        ends = self.ends(given, rows, count, past, first, last)
        steered = [[False] * count for _ in range(rows)]
        for row, end in enumerate(ends):
            own, words = self.prompt(ids, row, first[row] - past, min(end - past, count), whole=past == 0 and end <= past + count)
            for at in range(count):
                index = past + at
                if index >= end:
                    steered[row][at] = self.steers_response
                elif first[row] <= index:
                    in_words = words is None or words[index - first[row]]
                    steered[row][at] = in_words and self.rule.steers_prompt(index, first[row] + own, end)
            if past == 0 and end <= count and not any(steered[row]) and not self.steers_response:
                raise BipoError("no token of the prompt or after it would be steered: choose other positions or spans")
        self.mask = torch.tensor(steered, device=inputs.device)

    def ends(self, given: Any, rows: int, count: int, past: int, first: List[int], last: List[int]) -> List[int]:
        """Where the response begins in each row, padding counted."""
        if self.prompt_length is not None:
            lengths = [self.prompt_length] * rows if isinstance(self.prompt_length, int) else list(self.prompt_length)
            if len(lengths) != rows:
                raise BipoError(f"prompt_length has {len(lengths)} numbers, but the call {rows} rows")
            return [start + length for start, length in zip(first, lengths)]
        use_cache = given.get("use_cache")
        if not (self.default_cache if use_cache is None else use_cache):
            raise BipoError("without a cache (use_cache=False) a prompt cannot be told from its response: pass prompt_length=")
        if past == 0:
            self.prompt_ends = [end + 1 for end in last]
        elif count > 1 or self.prompt_ends is None or len(self.prompt_ends) != rows:
            raise BipoError(
                f"{count} tokens behind {past} in the cache may be of the prompt or of the response: pass prompt_length="
            )
        return self.prompt_ends or []

    def prompt(
        self, ids: Optional[torch.Tensor], row: int, start: int, end: int, whole: bool
    ) -> Tuple[int, Optional[List[bool]]]:
        """How many tokens of a row's prompt the template begins with, and which of its tokens are words of the spans."""
        if (not self.rule.needs_template and self.words is None) or end <= 0:
            return 0, None
        if ids is None or not whole:
            raise BipoError(
                "these positions and spans need the ids of the whole prompt in one call: pass input_ids, without chunks"
            )
        prompt = ids[row, start:end].tolist()
        # The beginning of the text, where it stands in front of what the template writes.
        skipped = int(prompt[:1] == [self.bos] and self.beginning[:1] != [self.bos])
        own = skipped + common(prompt[skipped:], self.beginning)
        if self.words is None:
            return own, None
        expected, words = self.words
        if len(prompt) == len(expected) + 1:  # with the beginning of the text
            expected, words = [prompt[0], *expected], [False, *words]
        if prompt != expected:
            raise BipoError("the prompt is not what the chat template makes of messages=, so its words cannot be told")
        return own, words


def real_tokens(mask: Optional[torch.Tensor], rows: int, length: int) -> Tuple[List[int], List[int]]:
    """The first and the last token of each row that is not padding."""
    if mask is None:
        return [0] * rows, [length - 1] * rows
    if getattr(mask, "ndim", None) != 2 or mask.shape != (rows, length):
        raise BipoError(
            "the attention mask is not one number a token, so that padding cannot be told: use the default cache (no static one)"
        )
    numbers = mask.bool().int()
    first = numbers.argmax(dim=1)
    last = length - 1 - numbers.flip(1).argmax(dim=1)
    return first.tolist(), last.tolist()


def blocks_of(model: Any) -> Tuple[Any, Any]:
    """The decoder of a model, and the list of its blocks."""
    from torch.nn import ModuleList

    found = model.get_decoder() if hasattr(model, "get_decoder") else None
    for decoder in (found, model, getattr(model, "model", None), getattr(model, "language_model", None)):
        for name in ("layers", "h"):
            blocks = getattr(decoder, name, None)
            if isinstance(blocks, ModuleList):
                return decoder, blocks
    raise BipoError(
        f"{type(model).__name__} has no list of decoder blocks that bipo knows: expected a causal model of transformers"
    )


def check_model(model: Any, blocks: Any, vector: SteeringVector) -> None:
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden, depth = getattr(config, "hidden_size", None), len(blocks)
    trained_on = f" ({vector.base_model})" if vector.base_model else ""
    if hidden is not None and hidden != vector.hidden_size:
        raise BipoError(
            f"the vector has hidden size {vector.hidden_size}, but the model has {hidden}: choose the model that it was trained "
            f"on{trained_on}"
        )
    if max(vector.layers) >= depth:
        raise BipoError(f"layer {max(vector.layers)} out of range: model has {depth} layers")
    if vector.num_hidden_layers not in (None, depth):
        raise BipoError(f"the vector is for a model of {vector.num_hidden_layers} layers{trained_on}, but this one has {depth}")
    own = getattr(config, "model_type", None)
    if own and vector.model_type and family(own) != family(vector.model_type):
        warnings.warn(
            f"the vector is for models of type {vector.model_type}, the model is of type {own}: it means nothing there",
            stacklevel=3,
        )


def family(model_type: str) -> str:
    """The name that models of one kind share, in files of transformers and GGUF."""
    name = model_type.lower().replace("-", "").replace("_", "")
    name = name[: -len("text")] if name.endswith("text") else name
    return "llama" if name in ("mistral", "mixtral") else name
