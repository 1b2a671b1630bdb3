"""Count the floating point operations that a training step needs once the lower blocks are cached; no torch, no bipo.

Two a multiplication and addition; matrix products and attention alone. Blocks above the steered layer run forward and back to
their input, on unpadded tokens; what both sequences of a pair begin with (the prompt, and more where the responses begin alike)
stands once, and once for all pairs what all of them begin with; the last block computes its queries and MLP, and the head its
logits, where a response is predicted. The last token of a response predicts nothing and is left out.
"""

from itertools import takewhile


def step_flops(config, layer, pairs):
    """`config`: the model's sizes; `pairs`: for each pair, `shared` tokens, and [tokens, start] of `chosen` and `rejected`."""
    first, *others = pairs
    prefix = common_prefix(pairs)
    return pair_flops(config, layer, first, 0) + sum(pair_flops(config, layer, pair, prefix) for pair in others)


def step_rows(pairs):
    """Tokens that a step computes."""
    return sum(map(rows, pairs)) - (len(pairs) - 1) * common_prefix(pairs)


def common_prefix(pairs):
    """How many tokens all pairs begin with."""
    columns = zip(*(pair["shared"] for pair in pairs))
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def rows(pair):
    """Tokens that a pair's pass has, after the last one of each response is left out."""
    shared = len(pair["shared"])
    return shared + sum(tokens - 1 - shared for tokens, _ in (pair["chosen"], pair["rejected"]))


def pair_flops(config, layer, pair, known):
    """Those of a pair whose first `known` tokens another pair computes."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    q_width, kv_width = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    everywhere = 2 * hidden * 2 * kv_width  # keys and values
    at_queries = 2 * (hidden * q_width + q_width * hidden + 3 * hidden * inner)  # queries, output, MLP

    shared = len(pair["shared"])
    tokens, queries = rows(pair) - known, query_positions(pair, known)
    tails = [range(shared, length - 1) for length, _ in (pair["chosen"], pair["rejected"])]
    all_positions = [range(known, shared), *tails]
    full = tokens * (everywhere + at_queries)
    last = tokens * everywhere + sum(map(len, queries)) * at_queries
    blocks = config["num_hidden_layers"] - layer - 1
    if blocks == 0:
        products = attention = 0
    else:
        products = 2 * ((blocks - 1) * full + last)  # forward; as many again for the gradient
        # Scores and weighted values forward, two products for each back.
        attention = 3 * 4 * q_width * ((blocks - 1) * seen(all_positions) + seen(queries))
    head = 4 * sum(map(len, queries)) * hidden * vocab  # logits, and the expected unembedding, which is the gradient
    return products + attention + head


def query_positions(pair, known):
    """Positions whose output the head reads: in what both share, in the chosen and in the rejected response."""
    shared = len(pair["shared"])
    first = max(known, min(start - 1 for _, start in (pair["chosen"], pair["rejected"])))
    tails = [range(max(start - 1, shared), tokens - 1) for tokens, start in (pair["chosen"], pair["rejected"])]
    return [range(min(first, shared), shared), *tails]


def seen(runs):
    """Keys that queries at these positions see: a position sees itself and all before it."""
    return sum(position + 1 for run in runs for position in run)
