"""Kinds of `hf-mlrpl convert` for CLIP and for models that learn prompts of CLIP."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub.converter import Converter
from ..settings import parse_settings

if TYPE_CHECKING:
    from .modeling_clip import ClipPromptModel


class ClipConverter(Converter):
    """Both towers of CLIP."""

    description = """\
Convert both towers of a CLIP model, once, into a folder that recipes and `convert` can use:

  hf-mlrpl convert clip RN50.pt clip-rn50 --tokenizer bpe_simple_vocab_16e6.txt.gz
  hf-mlrpl train RECIPE model.pretrained=clip-rn50

What can be converted, by content:
  OpenAI's files                  TorchScript archives (RN50.pt, ViT-B-16.pt, ...), or their state dicts
  open_clip's files               .safetensors, .bin or .pt; they need --activation
  a folder, or a name on the Hub  a CLIPModel of transformers (ViTs), or open_clip's layout (open_clip_config.json),
                                  for example timm/resnet50_clip.openai
Numbers in half precision become float32. Sizes follow from the tensors. All weights must be there, and no others.
"""
    epilog = """\
What is trusted: nothing of a file is run. PyTorch files are read with weights_only=True; of a TorchScript archive only
the tensors are read, and a name in it that is none of a tensor or of its own classes is an error. Safetensors and JSON
hold no code. Whether the numbers are those of the authors is for you to know: compare the checksum that they publish.
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--tokenizer",
            type=Path,
            metavar="PATH",
            help="OpenAI's bpe_simple_vocab_16e6.txt.gz, a merges.txt, a tokenizer.json, or a folder with one "
            "(default: that of the folder with the weights; files have none)",
        )
        parser.add_argument(
            "--activation",
            choices=("quick_gelu", "gelu"),
            help="of the transformers. OpenAI's files and all folders tell it; other files do not: quick_gelu for "
            "weights of OpenAI and models of open_clip with quickgelu in their names, gelu for the others",
        )

    def convert(self, arguments: argparse.Namespace) -> list[str]:
        from .convert_clip import convert_clip

        towers = convert_clip(
            arguments.source, arguments.output, tokenizer=arguments.tokenizer, activation=arguments.activation
        )
        config = towers.config
        height, width = config.height_and_width
        millions = sum(parameter.numel() for parameter in towers.parameters()) / 1e6
        lines = [
            f"{config.backbone}: {millions:.1f} million weights, vectors of {config.embed_dim}, {config.hidden_act}",
            f"  images of {width} x {height}: {_sizes(config.vision_sizes)}",
            f"  texts: {_sizes(config.text_sizes)}",
        ]
        if not towers.has_tokenizer:
            lines.append(
                "There is no tokenizer, so words cannot be read. Convert again with --tokenizer, or put CLIP's "
                f"tokenizer.json into {arguments.output}."
            )
        return lines


class PromptConverter(Converter):
    """A checkpoint of a model with learned prompts, as the authors' code writes it.

    title: name of the method.
    example: a command that converts one.
    """

    title: str
    example: str

    @property
    def description(self) -> str:  # type: ignore[override]
        return f"""\
Convert a checkpoint that the authors' code of {self.title} has written. It lacks CLIP's token embeddings and
tokenizer; these come from the CLIP model that it was trained from, converted with `hf-mlrpl convert clip`.

  {self.example}

The label names must be those of training in their order; they are compared with the words in the checkpoint.
KEY=VALUE are settings of the model, as in a recipe; what follows from the checkpoint cannot be set. Names that are not
used are printed. Nothing in the file is run: it is read with weights_only=True.
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the model, such as scale=10")
        parser.add_argument(
            "--clip", required=True, metavar="FOLDER", help="converted CLIP model, or its name on the Hub"
        )
        parser.add_argument("--labels", required=True, type=Path, metavar="FILE", help="label names, one a line")

    def convert(self, arguments: argparse.Namespace) -> list[str]:
        settings = parse_settings(arguments.settings, "model")
        model, unused = self.convert_checkpoint(arguments, settings)
        config = model.config
        contexts = "a context for each label" if config.context_per_label else "one context"
        return [
            f"{self.title}: {config.num_labels} labels, {config.backbone}, {contexts} of {config.num_context} tokens",
            f"not used: {', '.join(unused) or 'nothing'}",
        ]

    def convert_checkpoint(
        self, arguments: argparse.Namespace, settings: dict[str, Any]
    ) -> "tuple[ClipPromptModel, list[str]]":
        """Write the model; returns it, and the names in the file that were not used."""
        raise NotImplementedError(f"{type(self).__name__} must define `convert_checkpoint`.")


def _sizes(sizes: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())
