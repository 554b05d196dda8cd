"""Readers of files from elsewhere: YAML, the Hugging Face hub, headers of weight files."""
