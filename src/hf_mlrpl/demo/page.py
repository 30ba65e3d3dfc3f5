"""The page of `hf-mlrpl demo`: photos on the left, their labels and where the model looks on the right."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from .answers import MAX_MEGABYTES, MAX_PHOTOS, Answer, Answerer, Fault, RefusedError, bounds_of

if TYPE_CHECKING:
    import gradio as gr

KEPT_SECONDS = 3600  # that uploads and answers stay
NAMES_SHOWN = 12  # of the labels of a model


def make_page(answerer: Answerer, name: str, examples: Sequence[Image.Image] = ()) -> "gr.Blocks":
    """The page as an app of Gradio.

    Args:
        name: of the model.
        examples: photos to start with.
    """
    import gradio as gr

    events = _Events(answerer)

    def choose(event: gr.SelectData) -> int:
        return event.index

    def choose_row(event: gr.SelectData) -> int:
        return event.index[0]

    def take_example(event: gr.SelectData) -> list[Image.Image]:
        return [examples[event.index]]

    low, high = events.bounds
    with gr.Blocks(title=f"Tags by {name}", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        answers, chosen = gr.State([], time_to_live=KEPT_SECONDS), gr.State(0)
        gr.Markdown(_introduction(answerer, name))
        with gr.Row():
            with gr.Column(scale=2):
                gr.Markdown(f"Drop up to {MAX_PHOTOS} photos, each of at most {MAX_MEGABYTES} MB; then click one.")
                photos = gr.Gallery(
                    label="Photos",
                    show_label=False,
                    type="filepath",
                    format="png",  # of examples
                    file_types=["image"],
                    sources=["upload", "clipboard"],
                    interactive=True,
                    allow_preview=False,
                    columns=3,
                    height=300,
                    object_fit="contain",
                    buttons=[],
                )
                words = gr.Textbox(
                    label="Your own labels, separated by commas",
                    placeholder="zebra, traffic light",
                    visible=answerer.takes_labels,
                    submit_btn="Ask",
                )
                threshold = gr.Slider(0, 1, value=round((low + high) / 2, 2), step=0.01, label="Threshold")
                own = gr.Checkbox(
                    value=low != high,
                    label=f"The model's own thresholds, {low:.2f} to {high:.2f}",
                    visible=low != high,
                )
                gr.Markdown("Or click an example:", visible=bool(examples))
                gallery = gr.Gallery(
                    value=list(examples),
                    label="Examples",
                    show_label=False,
                    visible=bool(examples),
                    interactive=False,
                    allow_preview=False,
                    columns=6,
                    height=130,
                    object_fit="cover",
                    buttons=[],
                )
            with gr.Column(scale=3):
                tags = gr.Label(label="Labels", show_heading=False)
                gr.Markdown("Where the model looks for each of them:", visible=answerer.has_attention)
                maps = gr.Gallery(
                    label="Attention",
                    show_label=False,
                    visible=answerer.has_attention,
                    interactive=False,
                    columns=3,
                    object_fit="contain",
                    buttons=["fullscreen"],
                )
                table = gr.Dataframe(
                    headers=["photo", "labels"],
                    label="All photos",
                    visible=False,
                    interactive=False,
                    wrap=True,
                )
        shown: dict[str, Any] = {
            "fn": events.show,
            "inputs": [answers, chosen, threshold, own],
            "outputs": [tags, maps, table],
        }
        one_at_a_time: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
        answered = {"inputs": [photos, words], "outputs": [answers, chosen], **one_at_a_time}
        photos.change(events.answer, api_name="tag", **answered).success(**shown, api_name="show")
        words.submit(events.answer, api_visibility="private", **answered).success(**shown, api_visibility="private")
        threshold.release(lambda: False, None, own, api_visibility="private").then(**shown, api_visibility="private")
        own.input(**shown, api_visibility="private")
        photos.select(choose, None, chosen, api_visibility="private").then(**shown, api_visibility="private")
        table.select(choose_row, None, chosen, api_visibility="private").then(**shown, api_visibility="private")
        taken = gallery.select(take_example, None, photos, api_visibility="private")  # which is no change by a visitor
        answered_example = taken.then(events.answer, api_visibility="private", **answered)
        answered_example.success(**shown, api_visibility="private")
    return page


class _Events:
    """What happens on the page."""

    def __init__(self, answerer: Answerer):
        self.answerer = answerer
        self.bounds = bounds_of(answerer.tagger.model.config.thresholds)

    def answer(self, photos: list[tuple[str, str | None]] | None, words: str) -> tuple[list[Answer | Fault], int]:
        """Tag the photos; a fault of one of them is shown, and the others go on."""
        import gradio as gr

        try:
            answers = self.answerer.answer([file for file, _ in photos or []], words or "")
        except RefusedError as error:
            raise gr.Error(str(error), title="Not possible", print_exception=False) from error
        for fault in answers:
            if isinstance(fault, Fault):
                gr.Warning(html.escape(fault.text), title="Left out")
        return answers, 0

    def show(
        self, answers: list[Answer | Fault], chosen: int, threshold: float, own: bool
    ) -> tuple[Any, list[tuple[Image.Image, str]], Any]:
        """Labels and pictures of the chosen photo, and the table of all."""
        import gradio as gr

        limit = None if own else threshold
        table = [[answer.name, _in_words(answer, limit)] for answer in answers]
        shown_table = gr.update(value=table, visible=len(table) > 1)
        if not answers:
            return gr.update(value=None, label="Labels"), [], shown_table
        answer = answers[min(chosen, len(answers) - 1)]
        found: Any = _in_words(answer, limit)
        if isinstance(answer, Answer):
            found = {tag["label"]: tag["score"] for tag in answer.found(limit)} or found
        labels = gr.update(value=found, label=f"Labels of {answer.name}")
        return labels, answer.attention(limit) if isinstance(answer, Answer) else [], shown_table


def _introduction(answerer: Answerer, name: str) -> str:
    labels = answerer.tagger.model.config.label_names
    more = f", and {len(labels) - NAMES_SHOWN} more" if len(labels) > NAMES_SHOWN else ""
    names = html.escape(", ".join(labels[:NAMES_SHOWN]))
    return f"# {html.escape(name)}\nfinds {len(labels)} labels in photos: {names}{more}."


def _in_words(answer: Answer | Fault, threshold: float | None) -> str:
    if isinstance(answer, Fault):
        return answer.text
    if found := answer.found(threshold):
        return ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in found)
    best = answer.tags[0]
    return f"none reaches the threshold; {best['label']} comes closest, {best['score']:.2f}"
