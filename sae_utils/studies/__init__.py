"""What the notebooks ask, each study a few modules on top of all others.

00: `training`, `truth`, `controls`. 01, 02: `counterparts`. 03: `cells` -> `layers`. 04: `bases` ->
`baselines`, `matched`, `indexed`. 05: `concepts` -> `subspaces`, `placebos`, `unsupervised`, `relations`,
`relatedness`; the lists are in `params/concepts.yaml`. 06: `synthetic` -> `calibration`. 11: `across_tokenizers`.
12: `published`, `views`, `planted` -> `ladder`.
"""
