"""Recipes in other encodings than UTF-8."""

import pytest

from hf_mlrpl.recipe.document import Recipe


@pytest.mark.parametrize(
    "content", ["é".encode("latin-1"), "é".encode("utf-16"), b"\xff\xfe\x00", bytes(range(128, 256))]
)
def test_a_recipe_that_is_not_utf8_is_named(content, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"method: sst # " + content)
    with pytest.raises(ValueError, match="mine.yaml is not UTF-8 text: .*Save the recipe as UTF-8"):
        Recipe.load(tmp_path / "mine.yaml")


def test_a_recipe_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbf" + b"method: sst\ndata: {name: digit_scenes}\n")
    assert Recipe.load(tmp_path / "mine.yaml").method == "sst"
