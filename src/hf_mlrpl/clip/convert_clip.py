"""Published CLIP weights as a folder of ours."""

from pathlib import Path

from .configuration_clip import ClipConfig
from .modeling_clip import ClipTowers
from .sources import ClipSource, read_clip
from .tensor_files import read_tensors
from .tokenizer import END, START, TOKENIZER_NAME, tokenizer_from_merges
from .torchscript import is_torchscript
from .weights import INTEGERS, weights_from_openai


def convert_clip(
    source: str, output: Path, *, tokenizer: Path | None = None, activation: str | None = None
) -> ClipTowers:
    """Write config.json, model.safetensors and the tokenizer of the CLIP model in `source` to the folder `output`.

    Args:
        source: a file with weights under the names of OpenAI's code, or what `read_clip` reads.
        tokenizer: a `tokenizer.json`, a folder with one, or a list of merges; by default that of `source`.
        activation: `hidden_act` of the transformers, where `source` does not tell it.
    """
    check_output(output)
    clip = _read_file(Path(source), activation) if Path(source).is_file() else read_clip(source)
    config = clip.weights.config
    if activation not in (None, config.hidden_act):
        raise ValueError(f"{source} says that its activation is {config.hidden_act}. Leave out `--activation`.")
    if tokenizer is not None:
        clip = ClipSource(clip.weights, read_tokenizer(tokenizer, config))
    towers = ClipTowers(config)
    towers.load_clip(clip, source)
    if towers.has_tokenizer:
        _check_tokenizer(towers, str(tokenizer or source))
    towers.save_pretrained(output)
    return towers


def check_output(output: Path) -> None:
    """Raise if there is something at `output` that would be mixed with what is written."""
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise ValueError(f"{output} exists and is no empty folder. Name a new folder, or take that one away.")


def _read_file(file: Path, activation: str | None) -> ClipSource:
    tensors = read_tensors(file)
    if activation is None:
        if not is_torchscript(file) and not tensors.keys() >= set(INTEGERS):
            raise ValueError(
                f"{file} does not tell the activation of its transformers. Add `--activation quick_gelu` for OpenAI's "
                "weights and the models of open_clip that have quickgelu in their names, else `--activation gelu`."
            )
        activation = "quick_gelu"  # a file of OpenAI
    return ClipSource(weights_from_openai(tensors, str(file), hidden_act=activation), None)


def read_tokenizer(path: Path, config: ClipConfig) -> str:
    """The content of a `tokenizer.json` with the tokenizer at `path`."""
    file = path / TOKENIZER_NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no tokenizer {file}.")
    if file.suffix == ".json":
        return file.read_text(encoding="utf-8")
    sizes = config.text_sizes
    return tokenizer_from_merges(file, sizes["vocab_size"], sizes["context_length"]).backend_tokenizer.to_str()


def _check_tokenizer(towers: ClipTowers, where: str) -> None:
    size = towers.config.text_sizes["vocab_size"]
    start, end = (towers.tokenizer.get_vocab()[token] for token in (START, END))
    if (start, end) != (size - 2, size - 1):
        raise ValueError(
            f"The tokenizer of {where} does not belong to the weights: start and end are its tokens {start} and "
            f"{end}, and must be the last of {size}."
        )
