"""Which labels an English sentence names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

_WORD = re.compile(r"[^\W_]+")
_PLURALS = {  # what the rules below would spell wrongly
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "calves": "calf",
    "halves": "half",
    "leaves": "leaf",
    "lives": "life",
    "loaves": "loaf",
    "scarves": "scarf",
    "thieves": "thief",
    "wives": "wife",
    "buses": "bus",
    "gases": "gas",
    "lenses": "lens",
    "canoes": "canoe",
    "shoes": "shoe",
    "toes": "toe",
    "brownies": "brownie",
    "cookies": "cookie",
    "hoodies": "hoodie",
    "movies": "movie",
    "pies": "pie",
    "selfies": "selfie",
    "smoothies": "smoothie",
    "ties": "tie",
    "neckties": "necktie",
    "skis": "ski",
    "taxis": "taxi",
}
_NO_PLURALS = {
    *("canvas", "christmas", "gas", "lens", "news", "series", "species"),
    *("abdomen", "cyclamen", "omen", "ramen", "regimen", "specimen", "stamen"),
}
_ENDINGS = {
    "men": "man",
    "children": "child",
    "shelves": "shelf",
    "wolves": "wolf",
    "knives": "knife",
}  # also of compounds


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, those in the plural in the singular."""
    return [singular(word) for word in _WORD.findall(text.lower())]


@cache
def singular(word: str) -> str:
    """A noun in the singular, by its ending and a list of exceptions.

    Other words may lose an "s" as well, which does no harm where all texts are read so. Unlike WordNet's lemmatizer,
    it takes verbs as they are: "skiing" is not "ski".
    """
    if word in _PLURALS:
        return _PLURALS[word]
    if word in _NO_PLURALS:
        return word
    for plural, ending in _ENDINGS.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + ending
    if len(word) < 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "oes")) else word[:-1]


class LabelFinder:
    """Finds the labels that texts name, whatever case, number and spaces their names are written with.

    Names of more words come first, and a word counts once: a "hot dog" is no dog.

    Args:
        names: of the labels.
        synonyms: further names of labels.
    """

    def __init__(self, names: Sequence[str], synonyms: Mapping[str, Iterable[str]]):
        self._labels: dict[tuple[str, ...], int] = {}
        for label, name in enumerate(names):
            for written in (name, *synonyms.get(name, ())):
                words = tuple(words_of(written))
                if not words:
                    raise ValueError(f"The label {name!r} cannot be found in texts: {written!r} has no word.")
                other = self._labels.setdefault(words, label)
                if other != label:
                    raise ValueError(
                        f"{written!r} names two labels, {names[other]!r} and {name!r}. Take it from one of them."
                    )
        for words, label in list(self._labels.items()):
            self._labels.setdefault(("".join(words),), label)
        self._lengths = sorted({len(words) for words in self._labels}, reverse=True)

    def __call__(self, text: str) -> set[int]:
        """The labels by their number."""
        words: list[str | None] = list(words_of(text))
        found = set()
        for length in self._lengths:
            for start in range(len(words) - length + 1):
                label = self._labels.get(tuple(words[start : start + length]))  # type: ignore[arg-type]
                if label is not None:
                    found.add(label)
                    words[start : start + length] = [None] * length
        return found
