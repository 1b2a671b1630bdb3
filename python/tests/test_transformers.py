"""The vector in a model of transformers: the same logits as PyTorch's reference, and the same greedy text as the program."""

import json
import random
import struct
import sys
import tempfile
import unittest
from pathlib import Path

from common import DEPTH, FIXTURES, HIDDEN, MODEL, TINY, own

import bipo

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
except ImportError as error:
    torch = None
    print(f"note: the tests of bipo.apply are skipped, because {error.name} is not installed", file=sys.stderr)

TOKENS = 12
QUESTION = "What is NATO?"
CONVERSATION = [
    {"role": "user", "content": " the answer is\n\n42 "},
    {"role": "assistant", "content": "Hello, world!"},
    {"role": "user", "content": QUESTION},
]
RULES = ["all", "prompt", "response", "last", "last+response", "first:3", "first:2+last:4", "last:3+response"]
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2", "olmo3", "granite", "smollm3"]
FAMILIES += ["qwen3_moe", "mixtral"]


def tensors(path):
    """The f32 and i64 tensors of a file, without the code that is tested."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    found = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            dtype = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
            found[name] = torch.frombuffer(bytearray(content[begin:end]), dtype=dtype).reshape(entry["shape"])
    return found


@unittest.skipIf(torch is None, "torch or transformers is not installed")
class Apply(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)  # the model is tiny: threads would wait for each other
        cls.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
        cls.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = Path(folder.name) / "v.safetensors"
        numbers = random.Random(5)
        vectors = {layer: [numbers.gauss(0, 1) for _ in range(HIDDEN)] for layer in (0, 2)}
        cls.path.write_bytes(own(vectors, model_type="llama", num_hidden_layers=str(DEPTH)))
        cls.vector = bipo.load(cls.path)

    def ids(self, messages):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]])

    def logits(self, ids, **more):
        with torch.no_grad():
            return self.model(ids, **more).logits

    def generated(self, ids, **more):
        return self.model.generate(ids, max_new_tokens=TOKENS, do_sample=False, **more)[:, ids.shape[1] :]

    def applied(self, magnitude=1.0, **more):
        return bipo.apply(self.model, self.vector, magnitude, tokenizer=self.tokenizer, **more)

    def check_texts(self, messages, magnitudes, **rule):
        """Compares greedy tokens with those of the program, and returns them."""
        prompt = [messages] if isinstance(messages, list) else messages
        ours = bipo.steer(prompt, self.path, magnitudes, max_new_tokens=TOKENS, **TINY, **rule)
        if "spans" in rule:
            rule = {**rule, "messages": messages}
        for text in ours:
            with self.applied(text.magnitude, **rule):
                theirs = self.generated(self.ids(messages), attention_mask=torch.ones_like(self.ids(messages)))
            self.assertEqual(theirs[0].tolist(), text.token_ids, (rule, text.magnitude))
        return [text.token_ids for text in ours]

    def test_the_logits_of_every_family_are_those_of_the_reference(self):
        for folder in FAMILIES:
            reference = tensors(FIXTURES / folder / "expected.safetensors")
            path = self.path.with_name("reference.safetensors")
            path.write_bytes(own({int(reference["steered_layer"]): reference["v"].tolist()}))
            model = AutoModelForCausalLM.from_pretrained(
                FIXTURES / folder, dtype=torch.float32, attn_implementation="eager"
            ).eval()
            with bipo.apply(model, path, 2.0), torch.no_grad():
                steered = model(reference["input_ids"], attention_mask=torch.ones_like(reference["input_ids"])).logits[0]
            self.assertLess((steered - reference["steered_logits"]).abs().max(), 1e-4, folder)
            self.assertGreater((reference["logits"] - reference["steered_logits"]).abs().max(), 0.1, folder)

    def test_greedy_texts_are_those_of_the_program_at_all_positions(self):
        texts = {}
        for rule in RULES:
            for messages in (QUESTION, CONVERSATION):
                negative, untouched, positive = self.check_texts(messages, [-1.5, 0.0, 1.5], positions=rule)
                texts[rule, len(messages)] = (tuple(negative), tuple(positive))
                self.assertEqual(untouched, self.generated(self.ids(messages))[0].tolist())
        self.assertGreater(len(set(texts.values())), len(RULES), "the rules hardly differ, so that the test shows little")

    def test_greedy_texts_are_those_of_the_program_where_the_vector_is_taken_out(self):
        for rule in ("all", "last+response"):
            taken, untouched, doubled = self.check_texts(QUESTION, [-1.0, 0.0, 1.0], positions=rule, operation="ablate")
            self.assertNotEqual(taken, untouched)
            self.assertNotEqual(doubled, untouched)
        path = self.path.with_name("ablate.safetensors")
        numbers = {layer: v.tolist() for layer, v in self.vector.layers.items()}
        path.write_bytes(own(numbers, operation="ablate"))
        ids = self.ids(QUESTION)
        with self.applied(operation="ablate", positions="all"):
            given = self.logits(ids)
        with bipo.apply(self.model, path):
            self.assertTrue(torch.equal(self.logits(ids), given))
        with self.assertRaisesRegex(bipo.BipoError, "operation 'sum': expected add or ablate"):
            self.applied(operation="sum")

    def test_greedy_texts_are_those_of_the_program_in_spans(self):
        texts = [
            self.check_texts(CONVERSATION, [-1.5, 1.5], spans=spans, positions=rule)
            for spans in ("user", "assistant")
            for rule in ("all", "prompt", "first:24")
        ]
        self.assertGreater(len({str(text) for text in texts}), 4)

    def test_a_text_with_its_response_is_steered_as_it_was_generated(self):
        prompt = self.ids(QUESTION)
        for rule in RULES:
            with self.applied(1.5, positions=rule):
                answer = self.generated(prompt)
                whole = torch.cat([prompt, answer], dim=1)
                cache = self.model(prompt, use_cache=True).past_key_values
                steps = [self.logits(answer[:, at : at + 1], past_key_values=cache) for at in range(TOKENS)]
            with self.applied(1.5, positions=rule, prompt_length=prompt.shape[1]):
                at_once = self.logits(whole)[:, prompt.shape[1] :]
            self.assertLess((torch.cat(steps, dim=1) - at_once).abs().max(), 1e-4, rule)

    def test_rows_with_padding_are_steered_as_alone(self):
        long, short = self.ids(CONVERSATION), self.ids(QUESTION)
        missing = long.shape[1] - short.shape[1]
        rows = torch.cat([long, torch.nn.functional.pad(short, (missing, 0), value=2)])
        mask = torch.ones_like(rows)
        mask[1, :missing] = 0
        for rule in RULES:
            with self.applied(1.5, positions=rule):
                together = self.generated(rows, attention_mask=mask)
                alone = [self.generated(ids, attention_mask=torch.ones_like(ids))[0].tolist() for ids in (long, short)]
            self.assertEqual(together.tolist(), alone, rule)

    def test_two_vectors_inside_each_other_are_added(self):
        ids = self.ids(QUESTION)
        with self.applied(1.0), self.applied(-0.5):
            both = self.logits(ids)
        with self.applied(0.5):
            self.assertLess((both - self.logits(ids)).abs().max(), 1e-4)

    def test_nothing_is_left_behind_also_after_an_error(self):
        ids = self.ids(QUESTION)
        before = self.logits(ids)
        with self.assertRaises(ZeroDivisionError), self.applied(5.0, positions="last"):
            self.assertFalse(torch.equal(self.logits(ids), before))
            raise ZeroDivisionError
        self.assertTrue(torch.equal(self.logits(ids), before))

    def test_half_precision_is_rounded_once(self):
        model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16).eval()
        seen = []
        with bipo.apply(model, self.vector, 0.3):
            block = model.model.layers[0]
            block.register_forward_hook(lambda module, args, output: seen.append(output))
            model(self.ids(QUESTION))
        model(self.ids(QUESTION))
        steered, plain = (output[0] if isinstance(output, tuple) else output for output in seen)
        expected = (plain.float() + torch.from_numpy(self.vector.layers[0]) * 0.3).bfloat16()
        self.assertTrue(torch.equal(steered, expected))

    def test_tensors_have_the_numbers_of_the_arrays(self):
        tensors = self.vector.torch(dtype=torch.float64)
        self.assertEqual({layer: v.tolist() for layer, v in tensors.items()}, {n: v.tolist() for n, v in self.vector.layers.items()})

    def refused(self, pattern, call=None, **more):
        """What is wrong before a call is told before one; the rest is told by the call."""
        with self.assertRaisesRegex(bipo.BipoError, pattern) as caught:
            context = bipo.apply(self.model, more.pop("vector", self.vector), more.pop("magnitude", 1.0), **more)
            if call is not None:
                with context:
                    call()
        self.assertNotIn("\n", str(caught.exception))

    def test_a_vector_that_does_not_fit_the_model_is_refused(self):
        def vector(layers, **metadata):
            path = self.path.with_name("other.safetensors")
            path.write_bytes(own(layers, **metadata))
            return bipo.load(path)

        self.refused(r"has hidden size 2, but the model has 32.*\(big\)", vector=vector({1: [1.0, 2.0]}, base_model="big"))
        self.refused("layer 3 out of range: model has 3 layers", vector=vector({3: [1.0] * HIDDEN}))
        self.refused("a model of 8 layers, but this one has 3", vector=vector({1: [1.0] * HIDDEN}, num_hidden_layers="8"))
        self.refused("expected a finite number", magnitude=float("inf"))
        self.refused("expected all, prompt", positions="everywhere")
        self.refused("expected user or assistant", spans="system")
        with self.assertWarnsRegex(UserWarning, "for models of type qwen2, the model is of type llama"):
            bipo.apply(self.model, vector({1: [1.0] * HIDDEN}, model_type="qwen2"))
        with self.assertRaisesRegex(bipo.BipoError, "Linear has no list of decoder blocks"):
            bipo.apply(torch.nn.Linear(2, 2), self.vector)

    def test_a_decoder_whose_cache_is_not_known_is_refused(self):
        class Bare(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(DEPTH))

            def forward(self, input_ids, memory=None):
                return input_ids

        with self.assertRaisesRegex(bipo.BipoError, "Bare takes no cache that bipo knows"):
            bipo.apply(Bare(), self.vector, positions="prompt")
        bipo.apply(Bare(), self.vector, positions="all")

    def test_a_rule_that_cannot_be_followed_is_refused(self):
        ids = self.ids(QUESTION)
        self.refused("pass tokenizer=", positions="first:2")
        self.refused("pass tokenizer= and messages=", spans="user", tokenizer=self.tokenizer)
        self.refused("pass prompt_length=", lambda: self.generated(ids, use_cache=False), positions="response")
        self.refused("has 2 numbers, but the call 1 rows", lambda: self.model(ids), positions="last", prompt_length=[3, 4])

        def in_chunks():
            cache = self.model(ids[:, :4], use_cache=True).past_key_values
            self.model(ids[:, 4:], past_key_values=cache)

        self.refused("may be of the prompt or of the response", in_chunks, positions="last")
        made = torch.zeros(1, 1, ids.shape[1], ids.shape[1])  # as a static cache has it
        self.refused("use the default cache", lambda: self.model(ids, attention_mask=made), positions="last")
        user = {"spans": "user", "tokenizer": self.tokenizer, "messages": CONVERSATION}
        self.refused("is not what the chat template makes of messages=", lambda: self.model(ids), **user)
        user["messages"] = [{"role": "user", "content": QUESTION}]
        self.refused("no token of the prompt or after it", lambda: self.model(ids), positions="response", **user)
        embeddings = self.model.get_input_embeddings()(ids)
        first = {"positions": "first:2", "tokenizer": self.tokenizer}
        self.refused("pass input_ids", lambda: self.model(inputs_embeds=embeddings), **first)


if __name__ == "__main__":
    unittest.main()
