"""Learning curves: what partners, their correlation and their similarity are like when fewer tokens choose them.

In: the codes of A and B on the text and under exchanged words. Out: an artefact with a row for each number of tokens.
Never: other features or other judges at another number of tokens.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.replicates import Blocks, Sums
from sae_utils.store import Artefact, artefact


def of_replicate(run: Profile, names: replicates.Names, sizes: Sequence[int], minimum: int, measure: str) -> Artefact:
    """`curve` of A and B (names) on the text and under the exchanged words of their replicate."""
    seed = replicates.seed(run, names[0])
    a, b = ([pipeline.features(run, name, reading) for reading in (None, seed)] for name in names)
    made_a, made_b = (pipeline.reader(run, name).dictionary for name in names)
    sites = [x.sites for x in a]
    return curve([x.kept for x in a], [x.kept for x in b], sites, made_a, made_b, list(sizes), minimum, measure)


@artefact
def curve(
    folder: Path, a: list[Artefact], b: list[Artefact], sites: list[Artefact], dictionary_a: Artefact,
    dictionary_b: Artefact, sizes: list[int], minimum: int, measure: str,
) -> dict[str, Any]:  # fmt: skip
    """`rows`: one a number of tokens, of both readings together, from the first documents that choose.

    `a`, `b`: codes on both readings, whose `sites` are given. The features are the content features of A on all
    documents that choose; all held-out documents judge. tokens; n (features with a partner in both arms); r chosen and
    r held out, the mean correlation with the partners on the tokens that chose them and on the held-out documents;
    control, that of the control arm; retention, the share of features that get the same partner when the held-out
    documents choose; true and excess control, the excess of `measure` in both arms. Sizes beyond the text are left out,
    and the whole text is the last.
    """
    own = tuple(
        replicates.side([pipeline.Features(activations.matrix(x), dictionaries.decoder(made), at, x)
                         for x, at in zip(codes, sites, strict=True)])
        for codes, made in ((a, dictionary_a), (b, dictionary_b))
    )  # fmt: skip
    choose, judge = replicates.SPLITS[0]
    content = replicates.content_features(own[0].blocks[choose], own[0].classes[choose], minimum)
    judged = tuple(replicates.correlate(own[0].blocks[judge], y) for y in _arms(own[1].blocks[judge]))
    again = dict(zip(content, replicates.partners(judged[0].r, content, judged[0].live[1]), strict=True))
    rows = []
    for tokens, sums in zip(*_cumulative(own[0].blocks[choose], own[1].blocks[choose], sizes), strict=True):
        chosen = tuple(x.correlations() for x in sums)
        found = replicates.match("a", content, (chosen[0], chosen[1]), (judged[0], judged[1]))
        scored = replicates.scored(own, [found], [measure])
        rows.append({
            "tokens": tokens, "n": len(found.features),
            "r chosen": _mean(chosen[0].r[found.features, found.true]), "r held out": scored.r_true,
            "control": scored.r_control,
            "retention": _mean(np.array([again[x] == y for x, y in zip(found.features, found.true, strict=True)])),
            "true": scored.true[measure], "excess control": scored.control[measure],
        })  # fmt: skip
    return {"rows": rows}


def _arms(blocks: Blocks) -> tuple[Blocks, Blocks]:
    """What A meets in the true and in the control arm."""
    return blocks, blocks[::-1]


def _cumulative(a: Blocks, b: Blocks, sizes: Sequence[int]) -> tuple[list[int], list[tuple[Sums, Sums]]]:
    """Numbers of tokens, and the sums over so many, half of them of either reading, for both arms."""
    whole = a[0].shape[0]
    ends = [*dict.fromkeys(size // 2 for size in sorted(sizes) if 0 < size // 2 < whole), whole]
    found: list[tuple[Sums, Sums]] = []
    for first, last in itertools.pairwise([0, *ends]):
        mine = [block[first:last] for block in a]
        part = [replicates.sums(mine, [block[first:last] for block in arm]) for arm in _arms(b)]
        added = [_plus(x, y) for x, y in zip(found[-1], part, strict=True)] if found else part
        found.append((added[0], added[1]))
    return [2 * end for end in ends], found


def _plus(one: Sums, two: Sums) -> Sums:
    return Sums(one.tokens + two.tokens, *(x + y for x, y in zip(one[1:], two[1:], strict=True)))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
