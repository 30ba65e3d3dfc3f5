"""`torch.compile` sees a training step as one piece."""

import pytest
import torch
from test_methods import LATE, NUM_LABELS, make_batch, make_objective
from tiny import OBJECTIVES, make_trainer, tiny_model, tiny_recipe, weights
from torch._dynamo.testing import CompileCounter

from hf_mlrpl.registry import METHODS, load


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ssgrl", "sst", "sarb", "scpnet"])
def test_a_step_is_one_graph(method):
    torch._dynamo.reset()
    model = tiny_model(method, NUM_LABELS)
    objective = make_objective(load(METHODS[method].objective), model, OBJECTIVES.get(method, {}))
    counter = CompileCounter()
    compiled = torch.compile(model.train(), backend=counter, fullgraph=True)
    loss = compiled(**make_batch(), objective=objective, progress=LATE).loss
    loss.backward()
    assert counter.frame_count == 1 and loss.isfinite()


@pytest.mark.slow
def test_a_run_that_is_compiled_learns_and_saves_the_same(tmp_path):
    states = []
    for folder, settings in (("plain", {}), ("compiled", {"torch_compile_backend": "eager"})):
        recipe = tiny_recipe("ssgrl", training={"num_train_epochs": 1, "save_strategy": "epoch"} | settings)
        trainer = make_trainer(recipe, tmp_path / folder)
        trainer.train()
        states.append((weights(trainer), trainer.state.log_history[-2]["eval_map"]))
        assert (tmp_path / folder / "checkpoint-3" / "model.safetensors").is_file()
    assert states[0] == states[1]
