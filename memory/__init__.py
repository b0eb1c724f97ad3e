"""KV memory for transformers causal language models: bounded working sets, block-wise prefill, selection policies.

A library of its own: it imports nothing of `assistant` or `tui`. `geometry`, `budget` and `errors` need no torch.
"""
