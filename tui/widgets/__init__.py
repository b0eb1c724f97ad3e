"""One widget family per file."""
