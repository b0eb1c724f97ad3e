"""The process that owns the device: loader, engine, sampling. The only part of `assistant` that imports torch."""
