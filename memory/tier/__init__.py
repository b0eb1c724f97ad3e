"""Where KV lies: on the device (`gpu`), in RAM (`ram`), on disk (`disk`). Rows move down once and never change."""
