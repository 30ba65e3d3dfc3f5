"""The graph network over scores of the curriculum method, against a loop over pairs of labels."""

import torch
from tiny import make_trainer, tiny_model, tiny_recipe

from hf_mlrpl.methods.curriculum.modeling_curriculum import ScoreGraph


def random_graph(dim: int = 4, time_steps: int = 2) -> ScoreGraph:
    torch.manual_seed(0)
    graph = ScoreGraph(dim, time_steps).double()
    torch.nn.init.normal_(graph.score.weight)
    return graph


def test_messages_are_those_of_a_loop():
    graph, scores = random_graph(), torch.randn(2, 5, dtype=torch.float64)
    for row, actual in zip(scores, graph(scores), strict=True):
        first = [torch.tensor([0, 0, 0, score], dtype=torch.float64) for score in row]
        states = list(first)
        for _ in range(2):
            sent = [graph.message(state) for state in states]
            heard = [sum(sent[j] for j in range(5) if j != i) / 4 for i in range(5)]
            states = [graph.update(h[None], s[None])[0] for h, s in zip(heard, states, strict=True)]
        expected = [x[3] + graph.score(torch.cat([x, s]))[0] for x, s in zip(first, states, strict=True)]
        torch.testing.assert_close(actual, torch.stack(expected))


def test_the_order_of_the_labels_makes_no_difference():
    graph, scores, order = random_graph(), torch.randn(3, 6, dtype=torch.float64), torch.randperm(6)
    torch.testing.assert_close(graph(scores[:, order]), graph(scores)[:, order])


def test_a_score_depends_on_the_others_but_not_before_training():
    scores, other = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.0, 0, 5]], dtype=torch.float64)
    graph = random_graph()
    assert graph(scores)[0, 0] != graph(other)[0, 0]
    assert torch.equal(ScoreGraph(4, 2).double()(other), other)


def test_one_label_hears_nothing():
    assert random_graph()(torch.zeros(2, 1, dtype=torch.float64)).isfinite().all()


def test_the_curriculum_completes_labels_with_it(tmp_path):
    trainer = make_trainer(tiny_recipe("curriculum_graph"), tmp_path)
    before = trainer.model.score_graph.score.weight.clone()
    trainer.train()
    assert trainer.objective.pseudo_labels.any()
    assert not torch.equal(trainer.model.score_graph.score.weight, before)
    assert tiny_model("partial_bce", name="curriculum_graph").score_graph is not None
