import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from hf_mlrpl.data.images.photos import BadImageError
from hf_mlrpl.metrics.label_report import label_report
from hf_mlrpl.visualization.attention import COLOURS, attention_picture, plot_tags
from hf_mlrpl.visualization.canvas import BLACK, GREEN, GREY, ORANGE, cut, wrap_names
from hf_mlrpl.visualization.examples import plot_examples
from hf_mlrpl.visualization.label_report import plot_average_precision, plot_precision_recall
from hf_mlrpl.visualization.proportions import plot_over_proportions

DARK = Image.new("RGB", (64, 64))
NAMES = ["person", "dog", "cat", "a label whose name is much too long to fit", "$x$_{broken"]


def photos(count, size=(64, 64)):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)) for _ in range(count)]


def tags(scores, names=NAMES, with_maps=True):
    """Of one photo, the highest score first, with maps of 4 x 6 cells."""
    rng = np.random.default_rng(1)
    found = [{"label": name, "score": score} for name, score in zip(names, scores, strict=False)]
    return [tag | {"attention_map": rng.random((4, 6))} if with_maps else tag for tag in found]


def texts(figure):
    """All text of a figure, with its colour."""
    artists = list(figure.texts)
    for axes in figure.axes:
        artists += [*axes.texts, axes.title]
    return {artist.get_text(): artist.get_color() for artist in artists if artist.get_text()}


def assert_nothing_is_clipped_or_overlaps(figure, path):
    """Draw the figure; every text lies inside it, and no two texts touch."""
    figure.savefig(path)
    renderer = FigureCanvasAgg(figure).get_renderer()
    artists = [*figure.texts]
    for axes in figure.axes:
        artists += [artist for artist in (*axes.texts, axes.title) if artist.get_text()]
    boxes = [(artist.get_text(), artist.get_window_extent(renderer)) for artist in artists]
    page = figure.bbox
    for text, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, f"{text!r} leaves the page sideways"
        assert page.y0 <= box.y0 and box.y1 <= page.y1, f"{text!r} leaves the page"
    for i, (text, box) in enumerate(boxes):
        for other_text, other in boxes[:i]:
            x_overlap = min(box.x1, other.x1) - max(box.x0, other.x0)
            y_overlap = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert x_overlap <= 0 or y_overlap <= 1, f"{text!r} overlaps {other_text!r}"


@pytest.mark.parametrize("size", [(64, 64), (448, 300), (300, 448), (600, 40), (1, 1)])
def test_attention_picture_is_clean_at_every_size(size, tmp_path):
    truths = [dict.fromkeys(NAMES, 1), dict(zip(NAMES, [-1, 1, 0, 1, -1], strict=True)), {}]
    found = [tags([0.9, 0.8, 0.7]), tags([0.9, 0.8, 0.7, 0.6, 0.5]), []]
    figure = plot_tags(photos(3, size), found, truths, title="Where the model looked")
    assert_nothing_is_clipped_or_overlaps(figure, tmp_path / "attention.png")
    assert Image.open(tmp_path / "attention.png").width > 300


def test_attention_colours_tell_right_from_wrong():
    truth = dict(zip(NAMES, [1, -1, 1, 0, -1], strict=True))
    names = [NAMES[0], NAMES[1], NAMES[3]]
    found = texts(plot_tags(photos(1), [tags([0.9, 0.8, 0.7], names)], [truth]))
    assert found["0.90  person"] == COLOURS["correct"] == GREEN
    assert found["0.80  dog"] == COLOURS["wrong"]
    assert found["missed  cat"] == COLOURS["missed"] == ORANGE
    assert found["0.70  a label whose name is…"] == COLOURS["truth unknown"] == GREY
    assert found["person  0.90"] == GREEN, "the title of the map"
    assert not any("$x$" in text for text in found), "neither predicted nor present"


def test_the_first_tags_have_their_maps():
    figure = plot_tags(photos(1), [tags([0.9, 0.7, 0.6], ["dog", "cat", "person"])], max_maps=2)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["dog  0.90", "cat  0.70"]
    assert set(texts(figure).values()) == {BLACK}, "without the truth there is no right or wrong"


def test_a_photo_without_labels_says_so(tmp_path):
    figure = plot_tags(photos(1), [[]])
    assert list(texts(figure)) == ["nothing found"]
    assert_nothing_is_clipped_or_overlaps(figure, tmp_path / "empty.png")


def test_a_model_without_attention_gets_photos_and_labels(tmp_path):
    figure = plot_tags(photos(2), [tags([1.0] * 5, with_maps=False)] * 2, [dict.fromkeys(NAMES, 1)] * 2)
    assert not any(axes.get_title() for axes in figure.axes)
    assert_nothing_is_clipped_or_overlaps(figure, tmp_path / "plain.png")


def test_eighty_predictions_are_cut(tmp_path):
    names = [f"label number {i}" for i in range(80)]
    figure = plot_tags(photos(2), [tags([1.0] * 80, names)] * 2, [dict.fromkeys(names, 1)] * 2)
    assert any(text.startswith("and ") and text.endswith(" more") for text in texts(figure))
    assert_nothing_is_clipped_or_overlaps(figure, tmp_path / "many.png")


def test_the_heat_is_where_the_attention_is():
    attention_map = np.zeros((4, 4), np.float32)
    attention_map[0, 3] = 1.0
    heat = np.asarray(attention_picture(DARK, attention_map)) / 255
    assert heat.shape == (64, 64, 3)
    assert heat[:16, 48:].mean() > 0.3 > 0.01 > heat[32:, :32].mean()


def test_even_attention_shows_no_heat():
    assert np.asarray(attention_picture(DARK, np.full((4, 4), 1 / 16))).max() <= 1


def test_tags_of_the_pipeline_can_be_drawn(tmp_path):
    path = tmp_path / "photo.png"
    photos(1)[0].save(path)
    tags = [[{"label": "dog", "score": 0.9, "attention_map": np.eye(3)}, {"label": "cat", "score": 0.6}]]
    figure = plot_tags([path], tags)
    assert list(texts(figure)) == ["0.90  dog", "0.60  cat", "dog  0.90"]


def test_tags_are_those_of_the_photos(tmp_path):
    with pytest.raises(ValueError, match="one entry per image, got 0 and 0"):
        plot_tags([], [])
    with pytest.raises(BadImageError, match=r"gone\.jpg"):
        plot_tags([tmp_path / "gone.jpg"], [[]])


@pytest.mark.parametrize("num_labels", [5, 80])
@pytest.mark.parametrize("size", [(64, 64), (448, 300), (300, 448), (1, 1)])
def test_examples_picture_is_clean(size, num_labels, tmp_path):
    rng = np.random.default_rng(3)
    names = NAMES if num_labels == 5 else [f"longer label {i}" for i in range(num_labels)]
    full_labels = np.where(rng.random((6, num_labels)) < 0.3, 1, -1).astype(np.int8)
    labels = np.where(rng.random((6, num_labels)) < 0.5, full_labels, 0).astype(np.int8)
    figure = plot_examples(photos(6, size), labels, names, full_labels, title="6 of 100 images")
    assert_nothing_is_clipped_or_overlaps(figure, tmp_path / "examples.png")


def test_examples_show_known_and_count_unknown():
    labels = np.array([[1, -1, 0, 0, 1]], np.int8)
    full_labels = np.array([[1, -1, 1, -1, 1]], np.int8)
    found = texts(plot_examples(photos(1), labels, NAMES, full_labels))
    assert found == {
        "+ person, $x$_{broken": GREEN,
        "− dog": GREY,
        "? 2 of 5 unknown": GREY,
        "hidden: cat": ORANGE,
    }


def test_hidden_labels_are_shown_only_on_request():
    labels = np.array([[1, -1, 0, 0, 0]], np.int8)
    assert "hidden" not in "".join(texts(plot_examples(photos(1), labels, NAMES)))


def test_examples_inputs_are_checked():
    with pytest.raises(ValueError, match="at least one image"):
        plot_examples([], np.zeros((0, 5), np.int8), NAMES)
    with pytest.raises(ValueError, match="one entry per image, got 2 and 1"):
        plot_examples(photos(2), np.zeros((1, 5), np.int8), NAMES)
    with pytest.raises(ValueError, match="-1 .absent., 0 .unknown. or .1 .present., got 2"):
        plot_examples(photos(1), np.full((1, 5), 2), NAMES)
    with pytest.raises(ValueError, match="`full_labels` must have the shape"):
        plot_examples(photos(1), np.zeros((1, 5), np.int8), NAMES, np.zeros((1, 4), np.int8))


def test_names_are_wrapped_and_counted():
    assert wrap_names("+ ", ["a", "b"], 20, 2) == ["+ a, b"]
    assert wrap_names("+ ", [], 20, 2) == []
    lines = wrap_names("+ ", [f"name{i}" for i in range(40)], 30, 2)
    assert len(lines) == 2 and all(len(line) <= 30 for line in lines)
    shown = sum(f"name{i}" in " ".join(lines).replace(",", " ").split() for i in range(40))
    assert lines[-1].endswith(f"and {40 - shown} more")
    assert cut("a" * 30, 10) == "a" * 9 + "…"


def test_a_chart_has_a_line_with_a_band_for_every_run():
    series = {"A": {0.5: [60.0, 64.0], 0.1: [50.0]}, "B $2": {0.1: [55.0, 55.0], 0.5: []}, "C": {}}
    (axes,) = plot_over_proportions(series, "mAP on test images").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert [line.get_xydata().tolist() for line in lines.values()] == [[[10, 50], [50, 62]], [[10, 55]]]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 50 and band[:, 1].max() == pytest.approx(62 + 8**0.5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", r"B \$2"]
    assert axes.get_ylabel() == "mAP on test images, in percent"
    assert axes.get_xticks().tolist() == [10, 50]


def test_many_runs_are_shown_in_panels_with_the_others_in_grey():
    series = {f"run {i}": {0.1: [50.0 + i], 0.9: [80.0 + i]} for i in range(17)}
    panels = plot_over_proportions(series, "mAP").axes
    assert [len(axes.get_legend().get_texts()) for axes in panels] == [7, 7, 3]
    assert all(len(axes.get_lines()) == 17 for axes in panels)
    coloured = [[line.get_marker() for line in axes.get_lines() if line.get_color() != GREY] for axes in panels]
    assert all(len({*markers}) == len(markers) for markers in coloured)
    assert panels[0].get_legend().get_texts()[0].get_text() == "run 6", "in the order of the right ends"


def test_a_chart_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_over_proportions({"A": {0.1: []}}, "mAP")


@pytest.mark.parametrize("num_labels", [1, 100])
def test_pictures_of_a_report_show_the_worst_labels(num_labels):
    random = np.random.RandomState(0)
    labels = random.choice([-1, 0, 1], size=(40, num_labels))
    names = [f"$label {i}$" for i in range(num_labels)]
    report = label_report(random.randn(40, num_labels), labels, names)
    bars, curves = plot_average_precision(report), plot_precision_recall(report)
    assert len(bars.axes[0].patches) == min(num_labels, 80) and len(curves.axes) == min(num_labels, 24)
    assert report.worst_first[0].label.replace("$", r"\$") in curves.axes[0].get_title()
    bars.canvas.draw()
    curves.canvas.draw()


def test_a_report_without_any_average_precision_cannot_be_drawn():
    report = label_report(np.zeros((3, 2)), np.full((3, 2), -1), ["a", "b"])
    for plot in (plot_average_precision, plot_precision_recall):
        with pytest.raises(ValueError, match="No label has an average precision"):
            plot(report)
