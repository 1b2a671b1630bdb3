"""At which tokens a vector is added: a rule on the token's place in prompt and response, and one on whose words it belongs to.

docs/formats.md of bipo describes both. Which tokens of a prompt they are can depend on the chat template: those of `first:N` and
`last:N` with N above 1 count from what every prompt of the template begins with, and words are told from the template's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ._errors import BipoError

Message = Dict[str, str]

# For private use, so that no template writes them.
OPEN, CLOSE = "\U000f0000", "\U000f0001"


@dataclass(frozen=True)
class Positions:
    """A rule on places: the whole prompt, some of its first and last tokens, the whole response."""

    prompt: bool = False
    response: bool = False
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, text: str) -> Positions:
        prompt = response = False
        ends = {"first": 0, "last": 0}
        for part in text.split("+"):
            if part in ("all", "prompt"):
                prompt = True
            if part in ("all", "response"):
                response = True
            end = re.fullmatch(r"(first|last):0*([1-9][0-9]{0,4})", "last:1" if part == "last" else part, re.ASCII)
            if end and int(end[2]) <= 65535:
                ends[end[1]] = max(ends[end[1]], int(end[2]))
            elif part not in ("all", "prompt", "response"):
                raise BipoError(
                    f"positions {text!r}: expected all, prompt, response, last, first:N or last:N with N from 1 to 65535, "
                    "or several joined by +"
                )
        return cls(prompt, response) if prompt else cls(prompt, response, **ends)

    @property
    def is_everywhere(self) -> bool:
        return self.prompt and self.response

    @property
    def needs_template(self) -> bool:
        """Whether these are tokens that only the template can tell."""
        return self.first > 0 or self.last > 1

    def steers_prompt(self, index: int, start: int, end: int) -> bool:
        """Whether the vector is added at token `index` of a prompt that ends at `end` and whose own tokens begin at `start`."""
        return self.prompt or (start <= index and (index < start + self.first or index + self.last >= end))


def beginning(tokenizer: Any, system: Optional[str]) -> List[int]:
    """The tokens that every prompt of the template begins with: those of two questions that have nothing in common."""
    if not getattr(tokenizer, "chat_template", None):
        return shared(*(list(tokenizer(text)["input_ids"]) for text in "a7"))
    front = [{"role": "system", "content": system}] if system else []
    texts = (rendered(tokenizer, [*front, {"role": "user", "content": text}]) for text in "a7")
    return shared(*(list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts))


def shared(a: List[int], b: List[int]) -> List[int]:
    return a[: common(a, b)]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """With how many equal tokens both begin."""
    return next((at for at, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def words_of(tokenizer: Any, messages: Sequence[Message], role: str) -> Tuple[List[int], List[bool]]:
    """The tokens of a conversation up to the place where the answer begins, and whether each is in a message of `role`."""
    text = rendered(tokenizer, messages)
    contents = contents_of(tokenizer, messages, text)
    if contents is None:
        raise BipoError(
            f"the chat template does not write the messages' texts as they are, so those of the {role} cannot be told apart"
        )
    missing = [index for index, message in enumerate(messages) if message["role"] == role and index not in contents]
    if missing:
        raise BipoError(f"the chat template leaves message {missing[0]} of the {role} out")
    kept = [place for index, place in contents.items() if messages[index]["role"] == role]
    ids, offsets = with_offsets(tokenizer, text)
    return ids, [any(start < to and of < end for of, to in kept) for start, end in offsets]


def contents_of(tokenizer: Any, messages: Sequence[Message], text: str) -> Optional[Dict[int, Tuple[int, int]]]:
    """Where the content of each message stands in `text`; None if the template does not write it as it is, or stripped.

    The template is rendered a second time with a mark in place of each content, so that the text around is the template's own.
    """
    marked = [{**message, "content": f"{OPEN}{index}{CLOSE}"} for index, message in enumerate(messages)]
    pieces = re.split(f"{OPEN}([0-9]+){CLOSE}", rendered(tokenizer, marked))
    pattern = re.escape(pieces[0])
    order = [int(index) for index in pieces[1::2]]
    for index, after in zip(order, pieces[2::2]):
        content = messages[index]["content"]
        core = content.strip()
        lead, trail = content.split(core, 1) if core else (content, "")
        pattern += f"((?:{re.escape(lead)})?{re.escape(core)}(?:{re.escape(trail)})?){re.escape(after)}"
    found = re.fullmatch(pattern, text)
    return None if found is None else {index: found.span(group + 1) for group, index in enumerate(order)}


def with_offsets(tokenizer: Any, text: str) -> Tuple[List[int], List[Tuple[int, int]]]:
    """Token ids, and the characters of each."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BipoError("spans need a fast tokenizer, which knows the characters of its tokens: load it with use_fast=True")
    from tokenizers import Tokenizer, processors

    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    # It would add no token here; its usual form cuts white space off the offsets.
    copy.post_processor = processors.ByteLevel(trim_offsets=False)
    encoding = copy.encode(text, add_special_tokens=False)
    return list(encoding.ids), list(encoding.offsets)
