"""Count the floating-point operations that a training step needs once the lower blocks are cached. Needs neither torch nor bipo.

A multiplication with an addition counts as two. Only matrix products and attention are counted. Blocks above the steered layer run
forward, and back to their input, on unpadded tokens. The tokens that both sequences of a pair begin with (the prompt, and more if
the responses begin alike) are counted once, and the tokens that all pairs begin with are counted once for all pairs. The last block
computes its queries and MLP, and the head its logits, only where a response is predicted. The last token of a response predicts
nothing and is left out.
"""

from itertools import takewhile


def step_flops(config, layer, pairs):
    """Operations of a step. `config` has the model's sizes, and `pairs` for each pair the `shared` tokens and [tokens, start] of
    `chosen` and of `rejected`."""
    first, *others = pairs
    prefix = common_prefix(pairs)
    return pair_flops(config, layer, first, 0) + sum(pair_flops(config, layer, pair, prefix) for pair in others)


def step_rows(pairs):
    """Tokens that a step computes."""
    return sum(map(rows, pairs)) - (len(pairs) - 1) * common_prefix(pairs)


def common_prefix(pairs):
    """Number of tokens that all pairs begin with."""
    columns = zip(*(pair["shared"] for pair in pairs))
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def rows(pair):
    """Number of tokens in a pair's pass, which leaves out the last token of each response."""
    shared = len(pair["shared"])
    return shared + sum(tokens - 1 - shared for tokens, _ in (pair["chosen"], pair["rejected"]))


def pair_flops(config, layer, pair, known):
    """Operations of a pair whose first `known` tokens are computed with another pair."""
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
        products = 2 * ((blocks - 1) * full + last)  # the forward pass, and as many for the gradient
        # Forward computes scores and weighted values; the gradient takes two products for each of them.
        attention = 3 * 4 * q_width * ((blocks - 1) * seen(all_positions) + seen(queries))
    head = 4 * sum(map(len, queries)) * hidden * vocab  # logits, and the expected unembedding, which is the gradient
    return products + attention + head


def query_positions(pair, known):
    """Positions whose output the head reads: in the shared tokens, in the chosen response and in the rejected response."""
    shared = len(pair["shared"])
    first = max(known, min(start - 1 for _, start in (pair["chosen"], pair["rejected"])))
    tails = [range(max(start - 1, shared), tokens - 1) for tokens, start in (pair["chosen"], pair["rejected"])]
    return [range(min(first, shared), shared), *tails]


def seen(runs):
    """Number of keys that queries at these positions see. A position sees itself and all positions before it."""
    return sum(position + 1 for run in runs for position in run)
