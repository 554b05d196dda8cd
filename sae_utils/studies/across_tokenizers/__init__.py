"""One notebook: across_tokenizers."""
