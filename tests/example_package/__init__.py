"""A package that adds a method, a data set, a protocol and a view to hf-mlrpl; its metadata name these lines."""

from hf_mlrpl.registry import Entry, MethodSpec

METHOD = MethodSpec(
    "example_package.parts:WeakNegativesObjective", "unknown labels count as absent, a little", trains_any_model=True
)
DATASET = Entry("example_package.parts:load_squares", "red and blue squares")
PROTOCOL = Entry("example_package.parts:EveryNth", "the labels of every n-th image stay known")
VIEW = Entry("example_package.parts:upside_down_view", "resize, upside down")
