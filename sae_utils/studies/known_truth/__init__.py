"""The analysis of notebook `known_truth`: calibration of measures, tests and intervals on data with a planted truth."""
