"""Everything that can go wrong with KV on disk, made to happen: kills, damaged bytes, failing calls, mixed-up turns."""
