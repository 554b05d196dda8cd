"""The analysis of notebooks `06`, `06b` and `06c`: measures, tests, intervals and verdicts on planted truths."""
