import pytest
import torch
from golden_files import golden
from golden_models import build_model, cotangent_sum, leaf, weight_gradients
from tiny import tiny_model

from hf_mlrpl import KggrForMultiLabelClassification

NAME = "kggr_thirdparty"


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("form", "case"), [("product", ""), ("refined", "refined")])
def test_both_readings_of_the_logit_match_the_third_party_code(form, case, dtype):
    """The file was made with code of other people than the authors; `refined/` is derived from it."""
    tensors, whole = golden(NAME).case(case), golden(NAME).case()
    model = build_model(golden(NAME), KggrForMultiLabelClassification, dtype, classifier_form=form)
    features = leaf(whole["in.feature_map"], dtype)
    logits = model.classify(model.represent(features)[0])
    outputs = {"logits" if form == "product" else "logits_refined": logits, "refined_weights": model.refined_weights()}
    cotangents = {name: value for name, value in tensors.items() if name.startswith("cot.")}
    scalar = cotangent_sum(outputs, cotangents)
    scalar.backward()
    gradients = {"grad.in.feature_map": features.grad} | weight_gradients(model, golden(NAME).weights("", dtype))
    if form == "product":
        outputs |= {"scalar": scalar, "logits_refined": whole["out64.logits_refined"].to(dtype)}  # compared below
    else:
        golden(NAME).check("out64.logits_refined", logits)
    for name in golden(NAME).outputs(case):
        kind = name.rpartition("/")[2]
        golden(NAME).check(name, (outputs | gradients)[kind if kind.startswith("grad.") else kind.partition(".")[2]])


def test_a_rare_label_hears_of_its_neighbours():
    """Its refined weights depend on the classifier of a label that it occurs with."""
    model = tiny_model("kggr", num_labels=3)
    model.label_graph.copy_(torch.tensor([[1.0, 0.9, 0], [0.1, 1, 0], [0, 0, 1]]))
    before = model.refined_weights()
    with torch.no_grad():
        model.classifier.weight[1] += 1
    changed = (model.refined_weights() - before).abs().amax(dim=1) > 1e-6
    assert changed.tolist() == [True, True, False]
