"""Tags photos with onnxruntime and Pillow alone: python tag_with_onnx.py tagger.onnx photo.jpg ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
labels, thresholds, how = (json.loads(metadata[name]) for name in ("labels", "thresholds", "preprocessing"))
for file in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode[0] in "IF":  # grey values of more than 8 bits
        raise SystemExit(f"{file} has 16 or more bits in a pixel: save it with 8 bits first")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    height, width = (
        how["resize"]
        if isinstance(how["resize"], list)
        else (how["resize"] * side // min(image.size) for side in (image.height, image.width))
    )
    image = image.resize((width, height), Image.Resampling[how["resample"].upper()])
    if how["crop"]:
        top, left = ((side - part) // 2 for side, part in zip((height, width), how["crop"], strict=True))
        image = image.crop((left, top, left + how["crop"][1], top + how["crop"][0]))
    pixels = ((np.asarray(image) / 255 - how["mean"]) / how["std"]).astype(np.float32).transpose(2, 0, 1)
    scores = 1 / (1 + np.exp(-session.run(["logits"], {"pixel_values": pixels[None]})[0][0]))
    print(file, {labels[i]: round(float(scores[i]), 3) for i in np.argsort(-scores) if scores[i] >= thresholds[i]})
