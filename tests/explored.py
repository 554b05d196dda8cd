"""Two planted sides of an explorer, without models: feature i of A has partner (i + 1) mod n of B."""

import numpy as np

from sae_utils.page.sides import Explored, Side

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


def side(name: str, n: int, partner: np.ndarray, seed: int, words: int = 50, maps: int = 2) -> Side:
    """A side of `n` features in a plane, of tokens w0, w1, ...; the last feature has a hostile token."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2)).astype(np.float32)
    held_out = np.linspace(0.99, -0.1, n).astype(np.float32) if n else np.zeros(0, np.float32)
    held_out[partner < 0] = np.nan
    tokens = [[f"w{i % words}", f"x{i}", "the"] for i in range(n)]
    if n:
        tokens[-1] = [HOSTILE]
    near = np.argsort(((points[:, None] - points) ** 2).sum(-1), axis=1)[:, 1:11] if 0 < n <= 3000 else (
        rng.integers(0, max(n, 1), (n, 10 if n else 0)))  # fmt: skip
    return Side(
        name=name, width=n + 3, ids=2 * np.arange(n, dtype=np.int32), rate=rng.uniform(0, 0.1, n).astype(np.float32),
        partner=partner.astype(np.int32), r=held_out, held_out=held_out,
        kind=np.where(partner < 0, 0, 2).astype(np.uint8), tokens=tokens,
        contexts=[[("before it ", own[0], " after it")] for own in tokens],
        concept=(np.arange(n) % 3).astype(np.uint8), family=(np.arange(n) // 20 % 12).astype(np.int32),
        near=near.astype(np.int32), maps={f"map {i}": points + i for i in range(maps)}, link="",
    )  # fmt: skip


def planted(n: int = 60, n_b: int | None = None, seed: int = 0) -> Explored:
    """Both sides; with `n_b` features of B, A's features beyond them have no partner."""
    n_b = n if n_b is None else n_b
    to = np.where(np.arange(n) < n_b, (np.arange(n) + 1) % max(n_b, 1), -1)
    back = np.full(n_b, -1)
    back[to[to >= 0]] = np.flatnonzero(to >= 0)
    return Explored(side("one", n, to, seed), side("two", n_b, back, seed + 1), ["sea", "sky"], 0.7)
