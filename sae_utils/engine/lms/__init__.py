"""Language models: toys trained here and pretrained ones, and their activations at named hooks."""
