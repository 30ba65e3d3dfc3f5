"""`hf-mlrpl convert`: published weights as folders of ours."""

import argparse
from pathlib import Path

_CLIP = """\
Convert both towers of a CLIP model, once, into a folder that recipes and `convert` can use:

  hf-mlrpl convert clip RN50.pt clip-rn50 --tokenizer bpe_simple_vocab_16e6.txt.gz
  hf-mlrpl train scpnet/voc2007_10 model.pretrained=clip-rn50

What can be converted, by content:
  OpenAI's files                  TorchScript archives (RN50.pt, ViT-B-16.pt, ...), or their state dicts
  open_clip's files               .safetensors, .bin or .pt; they need --activation
  a folder, or a name on the Hub  a CLIPModel of transformers (ViTs), or open_clip's layout (open_clip_config.json),
                                  for example timm/resnet50_clip.openai
Numbers in half precision become float32. Sizes follow from the tensors. All weights must be there, and no others.
"""

_CLIP_EPILOG = """\
What is trusted: nothing of a file is run. PyTorch files are read with weights_only=True; of a TorchScript archive only
the tensors are read, and a name in it that is none of a tensor or of its own classes is an error. Safetensors and JSON
hold no code. Whether the numbers are those of the authors is for you to know: compare the checksum that they publish.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert published weights of CLIP",
        description="Convert published weights into folders that `hf-mlrpl` reads. Each kind has its own --help.",
    )
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    clip = kinds.add_parser(
        "clip",
        help="both towers of CLIP: OpenAI, open_clip, transformers",
        description=_CLIP,
        epilog=_CLIP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    clip.add_argument("source", metavar="FILE", help="weights: a file, a folder, or a name on the Hub")
    clip.add_argument("output", metavar="OUT", type=Path, help="folder to write")
    clip.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="OpenAI's bpe_simple_vocab_16e6.txt.gz, a merges.txt, a tokenizer.json, or a folder with one (default: "
        "that of the folder with the weights; files have none)",
    )
    clip.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu"),
        help="of the transformers. OpenAI's files and all folders tell it; other files do not: quick_gelu for weights "
        "of OpenAI and models of open_clip with quickgelu in their names, gelu for the others",
    )
    clip.set_defaults(run=run_clip)


def run_clip(arguments: argparse.Namespace) -> None:
    from transformers.utils import logging

    from ..hub.convert_clip import convert_clip

    logging.disable_progress_bar()
    towers = convert_clip(
        arguments.source, arguments.output, tokenizer=arguments.tokenizer, activation=arguments.activation
    )
    config = towers.config
    height, width = config.height_and_width
    millions = sum(parameter.numel() for parameter in towers.parameters()) / 1e6
    print(f"{config.backbone}: {millions:.1f} million weights, vectors of {config.embed_dim}, {config.hidden_act}")
    print(f"  images of {width} x {height}: {_sizes(config.vision_sizes)}")
    print(f"  texts: {_sizes(config.text_sizes)}")
    print(f"wrote {arguments.output}: {', '.join(sorted(file.name for file in arguments.output.iterdir()))}")
    if not towers.has_tokenizer:
        print(
            "There is no tokenizer, so words cannot be read. Convert again with --tokenizer, or put CLIP's "
            f"tokenizer.json into {arguments.output}."
        )


def _sizes(sizes: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())
