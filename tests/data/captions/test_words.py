import pytest

from hf_mlrpl.data.captions.words import LabelFinder, singular, words_of


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("dogs", "dog"),
        ("tvs", "tv"),
        ("puppies", "puppy"),
        ("ties", "tie"),
        ("benches", "bench"),
        ("toothbrushes", "toothbrush"),
        ("boxes", "box"),
        ("wine glasses", "wine glass"),
        ("horses", "horse"),
        ("buses", "bus"),
        ("potatoes", "potato"),
        ("shoes", "shoe"),
        ("knives", "knife"),
        ("people", "person"),
        ("Women", "woman"),
        ("policemen", "policeman"),
        ("grandchildren", "grandchild"),
        ("bookshelves", "bookshelf"),
        ("specimens", "specimen"),
    ],
)
def test_plurals(plural, expected):
    assert " ".join(words_of(plural)) == expected


@pytest.mark.parametrize("word", ["bus", "glass", "tennis", "lens", "us", "sheep", "skiing", "specimen"])
def test_what_is_no_plural_stays(word):
    assert singular(word) == word


FINDER = LabelFinder(
    ["dog", "hot_dog", "bear", "teddy bear", "skis", "traffic light", "person"],
    {"person": ["man", "woman"], "dog": ["puppy"]},
)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Two DOGS, and a puppy.", {0}),
        ("A man's hot dogs", {1, 6}),
        ("a hotdog stand", {1}),
        ("the dog eats a hot-dog", {0, 1}),
        ("hot and dog-like", {0}),
        ("a teddy bear beside bears", {2, 3}),
        ("a pair of skis / one ski", {4}),
        ("TrafficLights at night", {5}),
        ("a light for the traffic", set()),
        ("a catalog of dogmas", set()),
        ("", set()),
    ],
)
def test_labels_that_a_text_names(text, labels):
    assert FINDER(text) == labels


def test_a_word_counts_once_and_what_is_taken_out_joins_nothing():
    finder = LabelFinder(["hot dog", "red car"], {})
    assert finder("a red hot dog car") == {0}


def test_names_that_cannot_be_told_apart_are_errors():
    with pytest.raises(ValueError, match="'couch' names two labels, 'sofa' and 'bed'"):
        LabelFinder(["sofa", "bed"], {"sofa": ["couch"], "bed": ["couch"]})
    with pytest.raises(ValueError, match="The label 'no' cannot be found in texts: '--' has no word"):
        LabelFinder(["yes", "no"], {"no": ["--"]})
