"""Other programs that run the same model, each in an environment of its own."""
