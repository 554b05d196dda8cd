"""Foundations of all other modules: files, digests of code, typed records, progress bars, the pinned CPU code path."""
