import pytest
import torch

from hf_mlrpl import load_captions
from hf_mlrpl.clip.tokenizer import END, byte_tokenizer
from hf_mlrpl.data.captions.caption_tokens import CaptionTokens

CAPTIONS = ["a dog", "a dog and a couch", "a couch"]


@pytest.fixture
def captions(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(CAPTIONS))
    return load_captions(tmp_path / "c.txt", ["dog", "couch"])


def test_items_of_a_batch_are_as_long_as_its_longest_caption(captions):
    tokenizer = byte_tokenizer(24)
    items = CaptionTokens(captions, tokenizer, 24)
    expected = [torch.tensor(ids) for ids in tokenizer(CAPTIONS)["input_ids"]]
    for rows in ([2], [0, 2], [1, 0]):
        batch = items.__getitems__(rows)
        longest = max(len(expected[row]) for row in rows)
        for row, item in zip(rows, batch, strict=True):
            assert item["index"] == row and item["labels"].tolist() == items.labels[row].tolist()
            ids, padding = item["input_ids"].split([len(expected[row]), longest - len(expected[row])])
            assert torch.equal(ids, expected[row]) and not padding.any()
    assert torch.equal(items[1]["input_ids"], expected[1]) and len(items) == 3


def test_a_long_caption_is_cut_in_front_of_its_end(captions, caplog):
    tokenizer = byte_tokenizer(24)
    items = CaptionTokens(captions, tokenizer, 8)
    assert [len(items[row]["input_ids"]) for row in range(3)] == [6, 8, 8]
    assert all(items[row]["input_ids"][-1] == tokenizer.get_vocab()[END] for row in range(3))
    assert "1 captions are cut to the 8 tokens" in caplog.text


def test_other_captions_have_other_digests(captions):
    digests = [
        CaptionTokens(some, byte_tokenizer(24), 24).digests()
        for some in (captions, captions.select([0, 1, 2]), captions.select([0, 2, 1]), captions.select([0, 1]))
    ]
    assert digests[0] == digests[1] and digests[0] not in digests[2:] and digests[2] != digests[3]
