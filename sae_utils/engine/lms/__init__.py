"""Language models: trained on the spot, or read from the hub or a folder; hooked by name."""
