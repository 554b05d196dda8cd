"""The analysis of notebooks `08` to `08c`: what features and directions do to the next token."""
