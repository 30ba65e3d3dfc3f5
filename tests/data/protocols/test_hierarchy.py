import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_content, tiny_recipe

from hf_mlrpl.data import collections
from hf_mlrpl.data.columns import label_matrix, label_names, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.protocols.hierarchy import Hierarchy, labels_with_ancestors, read_hierarchy, with_ancestors
from hf_mlrpl.data.protocols.rules import KnowledgeGraph
from hf_mlrpl.recipe.document import Recipe

PETS = Hierarchy(
    {
        "cat": ("animal", "pet"),
        "wolf": ("animal",),
        "chair": ("furniture",),
        "animal": (),
        "pet": ("animal",),
        "furniture": (),
    }
)


def random_hierarchy(draw, num_names: int) -> Hierarchy:
    """Label i is a kind of some labels with a higher number, so there are no cycles."""
    names = [f"label {i}" for i in range(num_names)]
    parents = {}
    for i, name in enumerate(names):
        parents[name] = (
            tuple(sorted(draw(st.sets(st.sampled_from(names[i + 1 :]), max_size=2)))) if names[i + 1 :] else ()
        )
    return Hierarchy(parents)


@st.composite
def hierarchies_and_labels(draw):
    """A hierarchy, all its labels, and full labels of some images that agree with it."""
    hierarchy = random_hierarchy(draw, draw(st.integers(1, 7)))
    leaves = [name for name in hierarchy.parents if not any(name in above for above in hierarchy.parents.values())]
    rows = draw(st.lists(st.lists(st.sampled_from([-1, 1]), min_size=len(leaves), max_size=len(leaves)), min_size=1))
    names = hierarchy.with_ancestors(leaves)
    return hierarchy, names, labels_with_ancestors(np.array(rows, np.int8), leaves, names, hierarchy)


@pytest.mark.parametrize(
    "name, labels, leaves, roots",
    [
        ("coco_supercategories", 92, 80, 12),
        ("coco_panoptic", 163, 133, 1),
        ("cifar100_superclasses", 120, 100, 20),
    ],
)
def test_the_shipped_hierarchies_have_the_published_sizes(name, labels, leaves, roots):
    parents = read_hierarchy(name).parents
    assert len(parents) == labels
    assert len(set(parents) - {above for names in parents.values() for above in names}) == leaves
    assert sum(not above for above in parents.values()) == roots


def test_the_shipped_hierarchies_know_the_names_of_the_data():
    coco = Path(collections.__file__).with_name("label_names").joinpath("coco.txt").read_text().splitlines()
    for name in ("coco_supercategories", "coco_panoptic"):
        assert list(read_hierarchy(name).parents)[:80] == coco
    panoptic = read_hierarchy("coco_panoptic")
    assert panoptic.ancestors["zebra"] == {"animal", "thing", "root"}
    assert panoptic.ancestors["sky-other-merged"] == {"sky", "stuff", "root"}
    groups = read_hierarchy("cifar100_superclasses").parents
    sizes = [sum(above == (group,) for above in groups.values()) for group in groups if not groups[group]]
    assert sizes == [5] * 20


def test_a_file(tmp_path):
    path = tmp_path / "pets.json"
    path.write_text(json.dumps({"cat": ["animal", "pet"], "pet": "animal", "chair": []}))
    hierarchy = read_hierarchy(path)
    assert hierarchy.parents == {"cat": ("animal", "pet"), "pet": ("animal",), "chair": (), "animal": ()}
    assert hierarchy.ancestors["cat"] == {"animal", "pet"}


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"a": "b", "b": "c", "c": "a"}', "must have no cycles, but this is one: "),
        ('{"a": "a"}', "no cycles, but this is one: a > a"),
        ('{"a": "b", "a": "c"}', "an object must have every key once, but these are repeated: 'a'"),
        ('{"a": 3}', "the parents of 'a' must be a name or a list of names, got 3"),
        ('{"a": ["b", ""]}', "the parents of 'a' must be a name or a list of names"),
        ('["a"]', "must be a JSON object"),
        ("{}", "must be a JSON object"),
        ('{"a": ', "is not valid JSON"),
    ],
)
def test_a_wrong_file_is_named(content, message, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        read_hierarchy(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_lists_the_shipped_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="cifar100_superclasses, coco_panoptic, coco_supercategories"):
        read_hierarchy(tmp_path / "nothing.json")


def test_labels_that_the_hierarchy_lacks_are_named():
    with pytest.raises(ValueError, match="lacks 2 of 3 labels of the data: cta, dog. Did it mean 'cat'"):
        PETS.with_ancestors(["cta", "dog", "wolf"])


def test_only_labels_above_those_of_the_data_are_added():
    assert PETS.with_ancestors(["wolf", "pet"]) == ["wolf", "pet", "animal"]


def test_the_labels_above():
    """Present if something below is present, absent if all below is absent, else unknown."""
    labels = np.array([[1, -1, -1], [-1, 0, -1], [-1, -1, -1], [0, 1, -1]], np.int8)
    names = PETS.with_ancestors(["cat", "wolf", "chair"])
    assert names == ["cat", "wolf", "chair", "animal", "pet", "furniture"]
    above = labels_with_ancestors(labels, names[:3], names, PETS)
    assert np.array_equal(above[:, :3], labels)
    assert above[:, 3:].tolist() == [[1, 1, -1], [0, -1, -1], [-1, -1, -1], [1, 0, -1]]


def test_a_present_label_wins_over_an_absent_one_above():
    above = labels_with_ancestors(np.array([[1, -1], [0, -1], [-1, 0]], np.int8), ["cat", "pet"], ["cat", "pet"], PETS)
    assert above.tolist() == [[1, 1], [0, -1], [-1, 0]]


def test_a_data_set_gets_the_labels_above_and_keeps_its_images():
    dataset = make_dataset([b"a", b"b"], ["0", "1"], np.array([[1, -1], [-1, -1]]), ["cat", "chair"])
    extended = with_ancestors(dataset, PETS)
    assert label_names(extended) == ["cat", "chair", "animal", "pet", "furniture"]
    assert label_matrix(extended).tolist() == [[1, -1, 1, 1, -1], [-1] * 5]
    assert list(extended["image_id"]) == ["0", "1"]
    hidden = hide_labels(dataset, lambda labels: labels)
    with pytest.raises(ValueError, match="before labels are hidden"):
        with_ancestors(hidden, PETS)


def slow_knowledge_graph(labels, names, hierarchy, stops, absent_below):
    """The description of the protocol, image by image and label by label, for given stops."""
    children = {name: {c for c in names if name in hierarchy.parents[c]} for name in names}
    roots = {name for name in names if not hierarchy.parents[name]}
    topmost = roots | (children[next(iter(roots))] if len(roots) == 1 else set())
    result = np.zeros_like(labels)
    for row, stopped, known in zip(labels, stops, result, strict=True):
        present = {name for name, label in zip(names, row, strict=True) if label == 1}
        above_stops = set().union(*(hierarchy.ancestors[stop] for stop in stopped))
        verified = above_stops | set(stopped)
        absent = set().union(topmost, *(children[name] for name in above_stops)) - present
        if absent_below:
            absent |= {name for name in names if hierarchy.ancestors[name] & absent}
        for i, name in enumerate(names):
            known[i] = 1 if name in verified else -1 if name in absent else 0
    return result


@settings(deadline=None, max_examples=60)
@given(case=hierarchies_and_labels(), seed=st.integers(0, 3), absent_below=st.booleans())
def test_the_protocol_follows_its_description(case, seed, absent_below, tmp_path_factory):
    hierarchy, names, labels = case
    path = tmp_path_factory.mktemp("hierarchy") / "h.json"
    path.write_text(json.dumps(hierarchy.parents))
    protocol = KnowledgeGraph(str(path), seed, absent_below)
    before = labels.copy()
    known = protocol(labels, names)
    assert np.array_equal(known, protocol(labels, names)) and np.array_equal(labels, before)
    assert np.array_equal(known[known != 0], labels[known != 0]), "it only hides"
    above = hierarchy.is_a(names)
    for row in known:
        assert not any(row[j] != 1 for i in np.flatnonzero(row == 1) for j in np.flatnonzero(above[i]))
    # The stops are the lowest verified labels, or lie above another stop; either way these give the same labels.
    stops = [[n for n, label in zip(names, row, strict=True) if label == 1] for row in known]
    lowest = [[n for n in row if not any(n in hierarchy.ancestors[m] for m in row)] for row in stops]
    assert np.array_equal(known, slow_knowledge_graph(labels, names, hierarchy, lowest, absent_below))


def test_every_stop_on_the_way_down_is_equally_likely(tmp_path):
    path = tmp_path / "h.json"
    path.write_text(json.dumps({"cat": "pet", "dog": "pet", "pet": "animal", "fox": "animal", "animal": "root"}))
    names = ["cat", "dog", "fox", "pet", "animal", "root"]
    labels = np.tile(np.array([[1, -1, -1, 1, 1, 1]], np.int8), (30_000, 1))
    known = KnowledgeGraph(str(path))(labels, names)
    rows, counts = np.unique(known, axis=0, return_counts=True)
    at_animal, at_pet, at_cat = [0, 0, 0, 0, 1, 1], [0, 0, -1, 1, 1, 1], [1, -1, -1, 1, 1, 1]
    assert rows.tolist() == sorted([at_animal, at_pet, at_cat])
    assert np.abs(counts / 30_000 - 1 / 3).max() < 0.01
    nothing = KnowledgeGraph(str(path))(np.full((1, 6), -1, np.int8), names)
    assert nothing.tolist() == [[-1] * 6], "an image without labels is refused at the top"
    refused_at_the_top = KnowledgeGraph(str(path), absent_below=False)(np.full((1, 6), -1, np.int8), names)
    assert refused_at_the_top.tolist() == [[0, 0, 0, 0, -1, -1]]


def test_the_protocol_needs_the_labels_above():
    labels = np.ones((1, 2), np.int8)
    with pytest.raises(ValueError, match="but 'animal' is none of them"):
        KnowledgeGraph("coco_supercategories")(labels, ["cat", "dog"])
    with pytest.raises(ValueError, match="an image has a label, but not the one above it"):
        KnowledgeGraph("coco_supercategories")(np.array([[1, -1]], np.int8), ["cat", "animal"])


DIGITS = {
    **{str(i): "round" for i in (0, 6, 8, 9)},
    **{str(i): "straight" for i in (1, 4, 7)},
    "2": [],
    "3": [],
    "5": [],
}


def test_a_recipe_with_a_hierarchy(tmp_path):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(DIGITS))
    content = tiny_content("partial_bce", data={"protocol": "knowledge_graph", "hierarchy": str(path)})
    del content["data"]["proportion"]
    splits = Recipe.from_dict(content).data.load()
    assert splits.names[10:] == label_names(splits.test)[10:] == ["round", "straight"]
    labels, full = label_matrix(splits.train), label_matrix(splits.train, "full_labels")
    assert (labels == 0).any() and np.array_equal(labels[labels != 0], full[labels != 0])
    assert (label_matrix(splits.validation) != 0).all()


def test_other_protocols_may_have_a_hierarchy(tmp_path):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(DIGITS))
    recipe = tiny_recipe("partial_bce", data={"hierarchy": str(path)})
    assert label_matrix(recipe.data.load().train).shape[1] == 12


def test_the_protocol_needs_a_hierarchy():
    with pytest.raises(ValueError, match="needs `hierarchy`"):
        Recipe.from_dict({"method": "partial_bce", "data": {"name": "coco", "protocol": "knowledge_graph"}})


@pytest.mark.parametrize(
    "data, message",
    [
        ({"protocol": "knowledge_graph", "proportion": 0.5}, "has no key `proportion`"),
        ({"hierarchy": "coco_pantopic"}, "There is no hierarchy 'coco_pantopic'"),
    ],
)
def test_a_mistake_in_a_recipe_is_found_before_data_are_loaded(data, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tiny_recipe("partial_bce", data=data)


def test_one_node_of_an_image_leaves_what_else_is_present_unknown(tmp_path):
    path = tmp_path / "h.json"
    path.write_text(json.dumps({"cat": "pet", "dog": "pet", "pet": "root", "car": "thing", "thing": "root"}))
    names = ["cat", "dog", "car", "pet", "thing", "root"]
    labels = np.tile(np.array([[1, -1, 1, 1, 1, 1]], np.int8), (40_000, 1))
    known = KnowledgeGraph(str(path), one_per_image=True)(labels, names)
    rows, counts = np.unique(known, axis=0, return_counts=True)
    # the stop is pet, cat, thing or car
    expected = [[0, 0, 0, 1, 0, 1], [1, -1, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 1, 1]]
    assert rows.tolist() == sorted(expected) and np.abs(counts / 40_000 - 1 / 4).max() < 0.01
    on_each_way = KnowledgeGraph(str(path))(labels, names)
    assert (known == 0).sum() > 1.5 * (on_each_way == 0).sum()
    empty = KnowledgeGraph(str(path), one_per_image=True)(np.full((1, 6), -1, np.int8), names)
    assert empty.tolist() == [[-1] * 6]
