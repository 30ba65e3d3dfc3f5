import pytest
import torch

from hf_mlrpl.models.priors import label_embeddings

GLOVE_LINES = ["the 0 0 1", "hot 1 0 0", "dog 0 2 0", "cat 0 1 0", "at name@domain.com 5 5 5", "red 4 4 4"]


@pytest.fixture
def glove_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(GLOVE_LINES) + "\n")
    return path


def test_packaged_vectors_are_found_by_name():
    vectors = label_embeddings(["person", "hot dog", "tvmonitor"])
    assert vectors.shape == (3, 300) and vectors.dtype == torch.float32
    again = label_embeddings(["TVmonitor", "Hot_Dog", "PERSON"])
    assert torch.equal(again, vectors.flip(0))


def test_packaged_vectors_know_what_is_alike():
    car, truck, broccoli, carrot = label_embeddings(["car", "truck", "broccoli", "carrot"])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(car, truck, dim=0) > 0.5 > cosine(car, broccoli, dim=0)
    assert cosine(broccoli, carrot, dim=0) > cosine(broccoli, car, dim=0)


def test_packaged_vectors_cover_voc_and_the_longest_coco_names():
    names = (
        "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
        "sheep sofa train tvmonitor traffic_light baseball_glove hair_drier toothbrush"
    ).split()
    vectors = label_embeddings(names)
    assert vectors.norm(dim=1).min() > 1
    assert torch.unique(vectors, dim=0).shape == vectors.shape


def test_a_name_without_packaged_vector_says_what_to_do():
    with pytest.raises(ValueError, match="not: unicorn, zero(.|\n)*GloVe text file(.|\n)*orthogonal"):
        label_embeddings(["cat", "unicorn", "zero"])
    with pytest.raises(ValueError, match="`word_embedding_dim` must be 300"):
        label_embeddings(["cat"], dim=50)


def test_glove_file_averages_the_words_of_a_name(glove_file):
    vectors = label_embeddings(["Cat", "hot_dog"], glove_file, dim=3)
    assert torch.equal(vectors, torch.tensor([[0.0, 1, 0], [0.5, 1, 0]]))
    assert torch.equal(label_embeddings(["hot dog", "cat"], str(glove_file), dim=3), vectors.flip(0))


def test_glove_file_of_word2vec_layout_has_a_header(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\ncat 0 1 0\ndog 0 2 0\n")
    assert torch.equal(label_embeddings(["dog"], path, dim=3), torch.tensor([[0.0, 2, 0]]))


def test_missing_words_are_a_warning_and_missing_names_one_error(glove_file, caplog):
    vectors = label_embeddings(["red cat", "striped dog"], glove_file, dim=3)
    assert torch.equal(vectors[1], torch.tensor([0.0, 2, 0]))
    assert "striped" in caplog.text and "red" not in caplog.text
    with pytest.raises(ValueError, match="2 label name.*: unicorn, purple rain"):
        label_embeddings(["cat", "unicorn", "purple rain"], glove_file, dim=3)


def test_tokens_with_spaces_are_no_words(glove_file):
    with pytest.raises(ValueError, match="1 label name.*: at"):
        label_embeddings(["at"], glove_file, dim=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2\ncat 1 2\n", "line 1: expected a word and 3 numbers, got 2.*`word_embedding_dim: 2`"),
        ("dog 1 2 3\nred 1 2 3\ncat 1 2", "line 3: expected 3 numbers, got 2"),
        ("dog 1 2 3\nred 1 2 3\ncat 1 x 3", "line 3: expected numbers after 'cat'"),
        ("", "no vector"),
    ],
)
def test_broken_glove_files(tmp_path, text, message):
    path = tmp_path / "glove.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        label_embeddings(["cat"], path, dim=3)


def test_a_missing_file_names_the_choices(tmp_path):
    with pytest.raises(FileNotFoundError, match='"glove", "orthogonal" or the path.*nowhere.txt'):
        label_embeddings(["cat"], tmp_path / "nowhere.txt")


def test_orthogonal_vectors_are_orthogonal_and_ignore_the_seed():
    torch.manual_seed(1)
    vectors = label_embeddings([f"label {i}" for i in range(80)], "orthogonal", dim=80)
    assert torch.allclose(vectors @ vectors.T, 80 * torch.eye(80), atol=1e-4)
    state = torch.get_rng_state()
    many = label_embeddings([f"label {i}" for i in range(40)], "orthogonal", dim=16)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(many.norm(dim=1), torch.full((40,), 4.0))
    assert (many @ many.T / 16 - torch.eye(40)).max() < 0.95  # no direction twice
    torch.manual_seed(2)
    assert torch.equal(many, label_embeddings(["x"] * 40, "orthogonal", dim=16))


def test_bad_arguments():
    with pytest.raises(ValueError, match="list of at least one label name, got 'cat'"):
        label_embeddings("cat")
    with pytest.raises(ValueError, match="at least one label name"):
        label_embeddings([])
    with pytest.raises(ValueError, match="`dim` must be at least 1"):
        label_embeddings(["cat"], "orthogonal", dim=0)
