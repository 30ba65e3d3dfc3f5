"""Where the cells of a feature map look, and maps laid over photos by it."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from hf_mlrpl.models.attention_placement import AttentionPlacement, cell_centres
from hf_mlrpl.models.image_processing import MultiLabelImageProcessor


class Encoder(nn.Module):
    """A network whose features are those of `network`."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, pixel_values):
        features = self.network(pixel_values)
        return features[-1] if isinstance(features, list) else features


def timm_encoder(name, **settings):
    torch.manual_seed(0)
    return Encoder(timm.create_model(name, features_only=True, out_indices=(-1,), **settings)).eval()


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        (nn.AvgPool2d(8), [4, 12, 20, 28]),  # its own square
        (nn.AvgPool2d(1, stride=8), [0.5, 8.5, 16.5, 24.5]),  # the upper left corner of it
        (nn.Sequential(nn.ZeroPad2d((-7, 0, -7, 0)), nn.AvgPool2d(1, stride=8)), [7.5, 15.5, 23.5, 31.5]),
    ],
)
def test_centres_are_where_a_cell_looks(network, rows):
    centres = cell_centres(Encoder(network), (32, 32))
    for side in centres:
        assert side == pytest.approx(rows, abs=0.5)  # random inputs


def test_rows_and_columns_of_a_wide_map_are_told_apart():
    rows, columns = cell_centres(Encoder(nn.AvgPool2d((4, 8))), (8, 96))
    assert rows == pytest.approx([2, 6], abs=0.5)
    assert columns == pytest.approx(np.arange(12) * 8 + 4, abs=0.8)  # seven of them lie between measured ones


@pytest.mark.parametrize(
    ("name", "settings", "size", "expected"),
    [("test_resnet", {"output_stride": 8}, 32, [11.5, 17.8, 23.1, 25.4]), ("resnet18", {}, 224, [0.5, 32.6, 64.5])],
)
def test_real_networks_look_beside_their_squares(name, settings, size, expected):
    """Expected: the mean of the absolute gradient, which a long tail pulls to the middle a little more."""
    rows, columns = cell_centres(timm_encoder(name, **settings), (size, size))
    stride = size / len(rows)
    for side in (rows, columns):
        assert side[: len(expected)] == pytest.approx(expected, abs=stride / 5)
        assert abs(side - (np.arange(len(side)) + 0.5) * stride).max() > stride / 3


def test_centres_are_those_of_a_plain_loop():
    encoder = timm_encoder("test_resnet", output_stride=8)
    torch.manual_seed(1)
    pixels = torch.randn(48, 3, 48, 48, requires_grad=True)
    features = encoder.encode(pixels)
    expected = []
    for row in range(features.shape[2]):
        cell = (features[:, :, row, row] * torch.randn(features.shape[:2])).sum()
        weight = torch.autograd.grad(cell, pixels, retain_graph=True)[0].square().sum(dim=(0, 1, 3))
        expected.append(float(weight @ (torch.arange(48) + 0.5) / weight.sum()))
    rows, _ = cell_centres(encoder, (48, 48))
    assert rows == pytest.approx(expected, abs=1.0)


def test_a_network_that_sees_nothing_is_laid_on_a_grid():
    rows, _ = cell_centres(Encoder(nn.Sequential(nn.AvgPool2d(8), nn.Threshold(1e9, 0.0))), (32, 32))
    assert rows == pytest.approx([4, 12, 20, 28])


def test_features_without_places_have_no_centres():
    assert cell_centres(Encoder(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), (32, 32)) is None


def test_measuring_leaves_the_network_as_it_was():
    encoder = timm_encoder("test_resnet").train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with torch.inference_mode():
        cell_centres(encoder, (64, 64))
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def spot(rows, columns, row, column):
    attention_map = torch.zeros(1, rows, columns)
    attention_map[0, row, column] = 1.0
    return attention_map


def peak(placed):
    """Place of the maximum as a part of each side."""
    row, column = np.unravel_index(placed[0].argmax(), placed[0].shape)
    return (row + 0.5) / placed.shape[1], (column + 0.5) / placed.shape[2]


@pytest.mark.parametrize("photo_size", [(32, 32), (300, 448), (600, 40)])
def test_a_map_is_laid_where_its_cells_look(photo_size):
    placement = AttentionPlacement(np.array([6.0, 14, 22, 30]), np.array([2.0, 10, 18, 26]), (32, 32))
    placed = placement.place(spot(4, 4, 1, 2), photo_size)
    assert placed.shape == (1, 16, 16)
    assert peak(placed) == pytest.approx((14 / 32, 18 / 32), abs=1 / 32)
    even = placement.place(torch.ones(1, 4, 4), photo_size)[0]
    assert even[3:15, 1:13] == pytest.approx(1)  # from the first centre to the last
    assert (np.diff(even[:4, 8]) > 0).all(), "it fades beyond"


def test_cells_that_look_at_one_place_are_averaged():
    placement = AttentionPlacement(np.array([16.0, 16.0]), np.array([8.0, 24.0]), (32, 32))
    maps = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert placement.place(maps, (32, 32)).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("photo_size", "height", "width"), [((200, 400), 16, 32), ((400, 100), 64, 16)])
def test_what_a_crop_leaves_out_has_no_attention(photo_size, height, width):
    centres = np.array([4.0, 12, 20, 28])
    placement = AttentionPlacement(centres, centres, (32, 32), resized_to=32)
    placed = placement.place(torch.ones(1, 4, 4), photo_size)
    assert placed.shape == (1, height, width)
    seen = placed[0] > 0
    assert seen.sum() == 16 * 16 and np.array_equal(seen, seen[::-1, ::-1])
    expected = ((height - 16) / 2 + 6) / height, ((width - 16) / 2 + 10) / width
    assert peak(placement.place(spot(4, 4, 1, 2), photo_size)) == pytest.approx(expected, abs=1 / 16)


@pytest.mark.parametrize("photo_size", [(64, 64), (200, 400), (400, 100)])
@pytest.mark.parametrize("resized_to", [None, 32, 48])
def test_the_peak_of_a_map_is_the_centre_of_its_cell(photo_size, resized_to):
    placement = AttentionPlacement(np.array([6.0, 14, 22, 30]), np.array([2.0, 10, 18, 26]), (32, 32), resized_to)
    maps = torch.stack([spot(4, 4, 1, 2)[0], spot(4, 4, 3, 0)[0]])
    scale = min(photo_size) / resized_to if resized_to else np.array([photo_size[1], photo_size[0]]) / 32
    corner = (np.array([photo_size[1], photo_size[0]]) - 32 * scale) / 2  # of what the model sees
    assert placement.peaks(maps, photo_size) == pytest.approx(corner + np.array([[18, 14], [2, 30]]) * scale)


def test_of_a_stretched_photo_the_model_sees_the_middle_of_both_sides():
    placement = AttentionPlacement(np.array([4.0, 12.0]), np.array([4.0, 12.0]), (16, 16), (20, 20))
    upper_left = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert placement.peaks(upper_left, (40, 200)).tolist() == [(4 + 2) * 200 / 20, (4 + 2) * 40 / 20]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"size": {"height": 64, "width": 32}}, ((64, 32), None)),
        (
            {"size": {"shortest_edge": 96}, "do_center_crop": True, "crop_size": {"height": 64, "width": 32}},
            ((64, 32), 96),
        ),
        (
            {"size": {"height": 80, "width": 72}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
            ((64, 64), (80, 72)),
        ),
        ({"size": {"shortest_edge": 64}}, None),
        ({"size": {"height": 64, "width": 64}, "do_resize": False}, None),
    ],
)
def test_the_image_processor_says_which_part_of_a_photo_is_seen(settings, expected):
    encoder, processor = timm_encoder("test_resnet"), MultiLabelImageProcessor(**settings)
    if expected is None:
        with pytest.raises(ValueError, match="resizes it to a height and a width, or cuts out its centre, got `size`"):
            AttentionPlacement.of(encoder, processor)
    else:
        placement = AttentionPlacement.of(encoder, processor)
        assert (placement.image_size, placement.resized_to) == expected
