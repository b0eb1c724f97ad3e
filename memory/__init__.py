"""KV memory for transformers causal language models: bounded working sets, block-wise prefill, selection policies.

A library of its own: it imports nothing of `assistant` or `tui`. `geometry`, `budget` and `errors` need no torch.

    geometry = Geometry.from_config(model.config.to_dict())
    division = plan(geometry, parse_size("900MiB"), weights=model.get_memory_footprint(), itemsize=4, block=256)
    memory = Memory(model, division, make_policy("sinks_recent"))
    logits = memory.read(ids)            # any length; past the budget the policy chooses what stays
    logits = memory.step(token)          # one token of the reply
"""
