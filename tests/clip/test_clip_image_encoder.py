import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, cotangent_sum, leaf

from hf_mlrpl.clip.image_encoder import AttentionPool

DTYPES = (torch.float64, torch.float32)
FILE = "dualcoop_attention_conv"
OWN = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "c_proj": "proj"}
PARAMETERS = {f"{layer}.{kind}": f"{own}.{kind}" for layer, own in OWN.items() for kind in ("weight", "bias")}
PARAMETERS["positional_embedding"] = "pos_embed"


def golden_pool(dtype: torch.dtype) -> AttentionPool:
    sizes = golden(FILE).hparams
    grid = (sizes["spec_dim"], sizes["spec_dim"])
    pool = AttentionPool(sizes["width"], grid, sizes["out"], num_heads=sizes["heads"], qkv_separate=True).to(dtype)
    pool.load_state_dict({PARAMETERS[name]: weight for name, weight in golden(FILE).weights(dtype=dtype).items()})
    return pool


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(FILE, "size"))
def test_regions_match_published_code(case):
    for dtype in DTYPES:
        tensors = golden(FILE).case(case)
        pool, features = golden_pool(dtype), leaf(tensors["in.feature_map"], dtype)
        outputs = {"tokens": pool.regions(features).transpose(1, 2)}
        cotangent_sum(outputs, tensors).backward()
        gradients = {"grad.in.feature_map": features.grad}
        gradients |= {f"grad.w.{name}": pool.get_parameter(own).grad for name, own in PARAMETERS.items()}
        with torch.no_grad():
            attention = attention_of_the_mean(pool, features)
            # The pool attends in just this way, to values that are the regions.
            pooled = pool.proj(heads_apart(pool, pool.v(pool.tokens(features)), attention))
            torch.testing.assert_close(pool(features), pooled, rtol=1e-5, atol=1e-5)
        outputs["attention"] = attention.mean(dim=1, keepdim=True)
        check_case(golden(FILE), case, outputs | gradients)


def attention_of_the_mean(pool, features):
    """`(batch_size, heads, tokens)`, written out."""
    tokens = pool.tokens(features)
    query = pool.q(tokens[:, 0]).unflatten(1, (pool.num_heads, -1))
    key = pool.k(tokens).unflatten(2, (pool.num_heads, -1))
    return (torch.einsum("bhd,bnhd->bhn", query, key) / query.shape[2] ** 0.5).softmax(dim=2)


def heads_apart(pool, values, attention):
    return torch.einsum("bhn,bnhd->bhd", attention, values.unflatten(2, (pool.num_heads, -1))).flatten(1)
