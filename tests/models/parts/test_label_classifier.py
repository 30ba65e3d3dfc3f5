import pytest
import torch

from hf_mlrpl.models.parts.label_classifier import LabelClassifier


@pytest.mark.parametrize("batch_size", [0, 1, 5])
def test_a_shared_vector_has_the_logits_and_gradients_of_its_copies(batch_size):
    torch.manual_seed(0)
    classifier = LabelClassifier(num_labels=7, dim=3).double()
    results = []
    for copy in (False, True):
        vectors = torch.arange(3.0 * batch_size, dtype=torch.float64).view(batch_size, 3).requires_grad_()
        logits = classifier(vectors.unsqueeze(1).expand(-1, 7 if copy else 1, -1))
        gradients = torch.autograd.grad(logits.sin().sum(), (vectors, classifier.weight, classifier.bias))
        results.append((logits, *gradients))
    torch.testing.assert_close(*results)


def test_a_shared_vector_is_not_copied_for_every_label():
    classifier, vectors = LabelClassifier(num_labels=50, dim=8), torch.randn(4, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        classifier(vectors.unsqueeze(1))
    assert max(tensor.numel() for tensor in kept) == 50 * 8


@pytest.mark.parametrize("shared", [False, True])
def test_autocast_does_not_round_the_logits(shared):
    classifier, vectors = LabelClassifier(num_labels=50, dim=8), torch.randn(4, 8)
    representations = vectors.unsqueeze(1).expand(-1, 1 if shared else 50, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(representations)
    torch.testing.assert_close(logits, classifier(representations))
