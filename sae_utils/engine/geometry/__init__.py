"""The similarity measures of paired rows (CKA, CCA, RSA, kNN overlap, ...) and their closed-form null moments."""
