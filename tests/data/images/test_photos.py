import http.server
import io
import struct
import threading
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from hf_mlrpl.data.images.photos import BadImageError, find_images, image_of, open_image, open_pixels, pixels_of

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]
if Image.registered_extensions().get(".avif") in Image.SAVE:  # older Pillow has no AVIF
    FORMATS.append("AVIF")


def photo(size=(20, 10)):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, size[0], size[1]))
    return image


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_that_claims(width, height):
    """A PNG of a few bytes whose header promises `width` x `height` pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def server(tmp_path):
    """Address of a web server on this machine that serves `tmp_path`."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_every_kind_of_source_gives_the_same_image(tmp_path, server):
    path = tmp_path / "photo.png"
    photo().save(path)
    content = path.read_bytes()
    sources = [str(path), path, content, bytearray(content), photo(), f"{server}/photo.png"]
    sources += [{"path": str(path), "bytes": None}, {"path": "gone.png", "bytes": content}]
    for source in sources:
        image = open_image(source)
        assert (image.mode, image.size) == ("RGB", (20, 10))
        assert np.array_equal(image, photo()), f"{type(source).__name__} differs"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    source = np.zeros((10, 20), np.uint16) if mode == "I;16" else photo().convert(mode)
    image = open_image(Image.fromarray(source) if mode == "I;16" else source)
    assert (image.mode, image.size) == ("RGB", (20, 10))


def test_cmyk_keeps_its_colours():
    image = np.asarray(open_image(encode(photo((64, 32)).convert("CMYK"), "JPEG", quality=95)), int)
    assert np.abs(image - np.asarray(photo((64, 32)), int)).mean() < 8


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format):
    grey = np.array([[0, 257, 10_000, 40_000, 65_535]], np.uint16)
    image = np.asarray(open_image(encode(Image.fromarray(grey), format)))
    assert image[0, :, 0].tolist() == [0, 1, 39, 156, 255]


def test_dark_sixteen_bit_grey_stays_dark():
    image = open_image(encode(Image.fromarray(np.full((4, 4), 2570, np.uint16))))
    assert np.unique(image).tolist() == [10]


@pytest.mark.parametrize("values", [[-1.0, 0.0, 1.0], [0.0, 5e8, 1e9]])
def test_thirty_two_bit_grey_is_stretched(values):
    image = np.asarray(open_image(encode(Image.fromarray(np.array([values], np.float32)), "TIFF")))
    assert image[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_no_number_is_a_bad_image(value):
    """One infinite pixel would make all others black."""
    with pytest.raises(BadImageError, match="some pixels are infinite or no numbers"):
        open_image(encode(Image.fromarray(np.array([[value, 1.0, 2.0]], np.float32)), "TIFF"))


def test_constant_float_image_is_black():
    assert np.unique(open_image(Image.fromarray(np.full((3, 3), 7.5, np.float32)))).tolist() == [0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_become_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    pixels = np.asarray(open_image(image.convert(mode)))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 0]]


def test_palette_with_transparency_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    pixels = np.asarray(open_image(encode(image, "PNG", transparency=0)))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    content = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert np.abs(np.asarray(open_image(content), int) - [255, 0, 0]).max() < 8


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    image = open_image(encode(photo((64, 32)), "JPEG", exif=exif, quality=95))
    assert image.size == (32, 64)
    red, blue = np.asarray(image, int)[4].mean(axis=0), np.asarray(image, int)[-4].mean(axis=0)
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]


def test_one_pixel_is_an_image():
    assert open_image(encode(Image.new("RGB", (1, 1), "red"))).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_bad(format, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    content = encode(noise, format)
    path = tmp_path / "cut.img"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadImageError, match=r"cut\.img \(row 7\): .*(damaged|truncated|not an image)"):
        open_image(path, name="row 7")


def test_an_empty_file_is_bad(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(BadImageError, match=r"empty\.jpg: the file is empty \(0 bytes\)\. Replace or remove it"):
        open_image(path)


def test_text_is_no_image(tmp_path):
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(BadImageError, match=r"page\.jpg: this is not an image"):
        open_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadImageError, match=r"gone\.jpg \(row 3 of photos\.csv\): the file does not exist"):
        open_image(tmp_path / "gone.jpg", name="row 3 of photos.csv")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(BadImageError, match="this is a folder"):
        open_image(tmp_path)


def test_impossible_paths_are_bad():
    for path in ("a\0b.jpg", "x" * 5000 + ".jpg"):
        with pytest.raises(BadImageError, match="cannot be read"):
            open_image(path)


def test_a_row_without_an_image_is_bad():
    for source in (None, {"path": None, "bytes": None}, {}):
        with pytest.raises(BadImageError, match=r"\(row 5\): there is neither a path nor bytes"):
            open_image(source, name="row 5")


def test_another_type_is_refused():
    with pytest.raises(TypeError, match="got ndarray"):
        open_image(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("side", [10_000, 40_000], ids=["where Pillow warns", "where Pillow refuses"])
def test_a_decompression_bomb_is_bad(side, tmp_path, recwarn):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(side, side))
    with pytest.raises(BadImageError, match=r"bomb\.png: the image is too large .*MAX_IMAGE_PIXELS"):
        open_image(path)
    assert not recwarn.list, "the error says it all"


def test_the_limit_can_be_changed(monkeypatch):
    content = encode(photo((100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
    with pytest.raises(BadImageError, match="too large"):
        open_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert open_image(content).size == (100, 100)


def test_a_failed_download_is_bad(server):
    with pytest.raises(BadImageError, match=r"gone\.jpg: the download failed .*404"):
        open_image(f"{server}/gone.jpg")
    with pytest.raises(BadImageError, match="the download failed"):
        open_image("http://127.0.0.1:1/photo.jpg")
    with pytest.raises(BadImageError, match="the download failed"):
        open_image("http://[broken/photo.jpg")


def test_an_endless_download_stops(server, tmp_path, monkeypatch):
    (tmp_path / "photo.bmp").write_bytes(encode(photo((100, 100)), "BMP"))
    monkeypatch.setattr("hf_mlrpl.data.images.photos.MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(BadImageError, match="the download exceeds"):
        open_image(f"{server}/photo.bmp")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_give_an_image_or_the_named_error(format):
    rng = np.random.default_rng(0)
    content = np.frombuffer(encode(photo((24, 16)), format), np.uint8)
    outcomes = set()
    for _ in range(300):
        damaged = content.copy()
        places = rng.integers(0, len(content), 3)
        damaged[places] = rng.integers(0, 256, 3)
        try:
            outcomes.add(open_image(damaged.tobytes()).mode)
        except BadImageError as error:
            outcomes.add("bad")
            assert f"{len(content)} bytes in memory" in str(error)
    assert "bad" in outcomes and outcomes <= {"bad", "RGB"}


# ---- pixels without PIL ----


def noise(width=53, height=37) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(noise(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "content",
    [
        *(pytest.param(with_orientation(turn), id=f"orientation {turn}") for turn in range(10)),
        *(pytest.param(encode(noise().convert(mode), "JPEG"), id=mode) for mode in ("L", "CMYK", "YCbCr")),
        pytest.param(encode(noise(), "JPEG", progressive=True, subsampling=0), id="progressive"),
        pytest.param(encode(noise(), "MPO", save_all=True, append_images=[noise().rotate(90)]), id="two in a file"),
        pytest.param(encode(noise().convert("P"), "PNG", transparency=0), id="PNG"),
        pytest.param(noise(), id="image"),
    ],
)
def test_pixels_are_those_of_the_opened_image(content):
    assert torch.equal(open_pixels(content), pixels_of(open_image(content)))
    assert np.array_equal(image_of(open_pixels(content)), open_image(content))


def test_pillow_decodes_no_plain_jpeg_file(monkeypatch):
    contents = [encode(noise(), "JPEG"), with_orientation(6)]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("slow"))
    assert [open_pixels(content).shape for content in contents] == [(3, 37, 53), (3, 53, 37)]


def test_damaged_jpeg_files_give_the_same_pixels_or_the_same_error(capfd):
    rng = np.random.default_rng(0)
    content, outcomes = np.frombuffer(encode(noise(), "JPEG"), np.uint8), set()
    for attempt in range(200):
        damaged = content[: rng.integers(2, len(content))].copy() if attempt % 4 == 0 else content.copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        expected, found = (outcome(damaged.tobytes(), function) for function in (open_image, open_pixels))
        assert np.array_equal(expected, found)
        outcomes.add(type(found))
    assert outcomes == {str, np.ndarray}


def outcome(content: bytes, function) -> np.ndarray | str:
    """Pixels, or what is wrong with the file."""
    try:
        image = function(content)
    except BadImageError as error:
        return error.fault
    return np.asarray(image_of(image) if isinstance(image, torch.Tensor) else image)


@pytest.mark.parametrize(
    ("draft", "size"), [(None, (64, 96)), (65, (64, 96)), (64, (64, 96)), (32, (32, 48)), (9, (16, 24))]
)
def test_a_jpeg_file_is_decoded_at_the_smallest_size_with_enough_pixels(draft, size):
    assert open_pixels(encode(photo((96, 64)), "JPEG"), draft=draft).shape == (3, *size)
    assert open_pixels(encode(photo((96, 64)), "PNG"), draft=draft).shape == (3, 64, 96)


def test_find_images_is_sorted_and_recursive(tmp_path):
    for name in ("b.JPG", "a/z.png", "a/b/c.webp", "notes.txt", ".hidden.png", ".cache/x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)] == ["a/b/c.webp", "a/z.png", "b.JPG"]


def test_find_images_explains_empty_and_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_images(tmp_path / "gone")
