"""How close a reply under a memory budget comes to the reply of the full KV. Start it with `python -m`."""
