"""`multi_label_metrics` as a module for `evaluate.load`; importing this file imports `evaluate`.

Works offline: `evaluate.load` copies this one file, so it imports the installed package by its full name.
"""

import datasets
import evaluate

from hf_mlrpl.metrics import multi_label

CITATION = """\
@article{everingham2015pascal,
  title={The Pascal Visual Object Classes Challenge: A Retrospective},
  author={Everingham, Mark and Eslami, S. M. Ali and Van Gool, Luc and Williams, Christopher K. I. and Winn, John
    and Zisserman, Andrew},
  journal={International Journal of Computer Vision},
  year={2015}
}
"""

INPUTS = """
Args:
    predictions: one list of logits per image.
    references: one list of labels in {-1, 0, +1} per image: absent, unknown, present.
    empty: "skip", "zero" or "nan", the rule for labels without known positives.
"""


class MultiLabelMetric(evaluate.Metric):
    """`compute(predictions=logits, references=labels)` returns the dict of `multi_label_metrics`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=multi_label.multi_label_metrics.__doc__ or "",
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.List(datasets.Value("int8")),
                }
            ),
        )

    def _compute(self, predictions, references, empty: multi_label.Empty = "skip") -> dict[str, float]:
        return multi_label.multi_label_metrics(predictions, references, empty=empty)
