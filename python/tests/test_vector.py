"""Reading steering vectors: what a file says, and what is refused."""

import struct
import tempfile
import unittest
from pathlib import Path

from common import FIXTURES, f32, own, safetensors

import bipo

try:
    import numpy
except ImportError:
    numpy = None


@unittest.skipIf(numpy is None, "numpy is not installed")
class Load(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "v.safetensors"

    def load(self, content, layer=None):
        self.path.write_bytes(content)
        return bipo.load(self.path, layer)

    def problem(self, content, layer=None):
        with self.assertRaises(bipo.BipoError) as caught:
            self.load(content, layer)
        line = str(caught.exception)
        self.assertTrue(line.startswith(f"{self.path}: "), line)
        self.assertNotIn("\n", line)
        return line

    def test_a_file_of_bipo_has_its_numbers_and_its_metadata(self):
        metadata = {"positions": "last+response", "spans": "user", "base_model": "m", "model_type": "llama"}
        vector = self.load(own({4: [3.0, 4.0], 2: [0.0, 12.0]}, num_hidden_layers="8", training='{"steps": 7}', **metadata))
        self.assertEqual({layer: v.tolist() for layer, v in vector.layers.items()}, {2: [0.0, 12.0], 4: [3.0, 4.0]})
        self.assertEqual((vector.hidden_size, vector.norm, list(vector.layers)), (2, 13.0, [2, 4]))
        self.assertEqual((vector.positions, vector.spans, vector.base_model), ("last+response", "user", "m"))
        self.assertEqual((vector.model_type, vector.num_hidden_layers), ("llama", 8))
        self.assertEqual(vector.metadata["training"], {"steps": 7})
        self.assertEqual(vector.layers[2].dtype, numpy.float32)

    def test_a_vector_that_is_taken_out_says_so_and_a_condition_is_refused(self):
        self.assertEqual(self.load(own({1: [1.0, 2.0]})).operation, "add")
        self.assertEqual(self.load(own({1: [1.0, 2.0]}, operation="ablate")).operation, "ablate")
        self.assertIn("'operation' is 'sum'", self.problem(own({1: [1.0, 2.0]}, operation="sum")))
        self.assertIn("bipo steer --when", self.problem(own({1: [1.0, 2.0]}, condition="{}")))

    def test_half_precision_is_widened_exactly(self):
        half = ("F16", [3], struct.pack("<3e", 1.5, -0.25, 65504.0))
        self.assertEqual(self.load(safetensors({"layer.1": half})).layers[1].tolist(), [1.5, -0.25, 65504.0])
        bfloat16 = ("BF16", [1, 2], struct.pack("<2H", 0x3FC0, 0xC000))
        self.assertEqual(self.load(safetensors({"v": bfloat16}), layer=3).layers[3].tolist(), [1.5, -2.0])

    def test_files_of_other_programs_are_read(self):
        layers = bipo.load(FIXTURES / "vectors" / "layers.safetensors").layers
        self.assertEqual(list(layers), [2, 3])
        self.assertEqual(list(bipo.load(FIXTURES / "vectors" / "plain.safetensors", layer=5).layers), [5])

    def test_a_layer_that_no_model_has_is_refused(self):
        for layer in (-1, 1.5, "1"):
            with self.assertRaisesRegex(bipo.BipoError, f"^layer {layer!r}: expected a whole number, 0 or above$"):
                self.load(safetensors({"v": f32(1.0)}), layer=layer)
        self.assertEqual(list(self.load(safetensors({"v": f32(1.0)}), layer=numpy.int64(4)).layers), [4])

    def test_a_name_with_thousands_of_digits_is_no_layer(self):
        name = "layer." + "1" * 5000
        self.assertIn("pass layer=N", self.problem(safetensors({name: f32(1.0)})))
        self.assertIn("none a steering vector", self.problem(safetensors({name: f32(1.0), "layer.2": f32(1.0)})))
        self.assertIn("'layers' is '[111", self.problem(own({int("1" * 20): [1.0]})))
        self.assertEqual(list(self.load(safetensors({"layer.0012": f32(1.0)})).layers), [12])

    def test_a_single_layer_is_moved(self):
        self.assertEqual(list(self.load(own({1: [1.0, 2.0]}), layer=5).layers), [5])
        self.assertIn("only a single one can be moved", self.problem(own({1: [1.0], 2: [2.0]}), layer=5))

    def test_a_file_of_another_format_names_the_command_that_reads_it(self):
        for name in ["repeng.gguf", "bare.pt", "float32.npy", "list.json"]:
            self.assertIn("bipo convert", self.problem((FIXTURES / "vectors" / name).read_bytes()))

    def test_a_broken_file_is_refused(self):
        whole = own({1: [1.0, 2.0]})
        self.assertIn("is the file truncated?", self.problem(whole[:-1]))
        self.assertIn("is it truncated?", self.problem(whole[:40]))
        self.assertIn("not a safetensors file", self.problem(b""))
        self.assertIn("is not JSON", self.problem(struct.pack("<Q", 2) + b"{]"))
        self.assertIn("no whole numbers", self.problem(safetensors({"layer.1": ("F32", [-2], b"")})))
        self.assertIn("not finite (index 1)", self.problem(own({1: [1.0, float("nan")]})))
        with self.assertRaisesRegex(bipo.BipoError, "cannot read .*: No such file"):
            bipo.load(self.path.with_name("nothing"))

    def test_every_truncation_is_refused(self):
        whole = own({1: [1.0, 2.0], 2: [3.0, 4.0]})
        for length in range(len(whole)):
            self.problem(whole[:length])

    def test_a_file_that_is_no_steering_vector_is_refused(self):
        self.assertIn("none a steering vector", self.problem(safetensors({"a": f32(1.0), "b": f32(2.0)})))
        self.assertIn("pass layer=N", self.problem(safetensors({"v": f32(1.0)})))
        self.assertIn("expected [hidden]", self.problem(safetensors({"v": ("F32", [2, 2], bytes(16))}), layer=1))
        for dtype in ("I64", [], None):
            self.assertIn("expected F32, F16 or BF16", self.problem(safetensors({"v": (dtype, [1], bytes(8))}), layer=1))
        self.assertIn("holds no vector", self.problem(safetensors({"layer.1": ("F32", [0], b"")})))
        self.assertIn("expected 1", self.problem(safetensors({"layer.1": f32(1.0), "layer.2": f32(1.0, 2.0)})))
        for name in ["module_path", "psyctl_one", "psyctl_two"]:
            content = (FIXTURES / "vectors" / f"{name}.safetensors").read_bytes()
            self.assertIn("a module inside a block", self.problem(content, layer=1))

    def test_metadata_that_cannot_be_followed_is_refused(self):
        layers = {1: [1.0, 2.0]}
        self.assertIn("use a newer bipo", self.problem(own(layers, format_version="2")))
        self.assertIn("'positions' is missing", self.problem(own(layers, positions=None)))
        self.assertIn("'hidden_size' is missing", self.problem(own(layers, hidden_size=None)))
        self.assertIn("'hidden_size' is 'two', expected a whole number", self.problem(own(layers, hidden_size="two")))
        self.assertIn("'num_hidden_layers' is '111", self.problem(own(layers, num_hidden_layers="1" * 5000)))
        self.assertIn("'layers' is '[-1]', expected a list of whole numbers, 0 or above", self.problem(own({-1: [1.0]})))
        self.assertIn("'calibration' is '7', expected an object", self.problem(own(layers, calibration="7")))
        self.assertIn("'combination' is '[]', expected an object", self.problem(own(layers, combination="[]")))
        self.assertIn("expected all, prompt", self.problem(own(layers, positions="somewhere")))
        self.assertIn("expected user or assistant", self.problem(own(layers, spans="system")))
        self.assertIn("lists layers [2]", self.problem(own(layers, layers="[2]")))
        self.assertIn("expected 3", self.problem(own(layers, hidden_size="3")))
        self.assertIn("of a model of 1 layers", self.problem(own(layers, num_hidden_layers="1")))
        self.assertIn("expected JSON", self.problem(own(layers, training="{")))


class WithoutPackages(unittest.TestCase):
    def test_a_package_that_is_missing_is_named_with_what_installs_it(self):
        from bipo._errors import needed

        with self.assertRaisesRegex(ImportError, "^bipo.apply needs no_such_package: pip install no_such_package$"):
            needed("no_such_package", "bipo.apply")


if __name__ == "__main__":
    unittest.main()
