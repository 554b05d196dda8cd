"""Study of notebook 07c: two given models, with a twin of one of them as the control."""
