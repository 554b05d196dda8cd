"""Harvest and SAE training at the sizes of a released model, against the bare work in the same run.

``python -m benchmarks.released``: a Llama of SmolLM2-135M's sizes (576 wide, random weights, the blocks up to the
hooks). Harvest is `trainer.inputs`: one pass writes float16 activations of three hooks; bare are transformers' blocks
on the same rows, which store nothing. SAE training is `trainer.fit` with `trainer.provider` on stored activations, TopK
of width 2,048, k 32, batch 1,024; bare is a plain TopK step in torch with Adam and the auxiliary loss on features that
have been silent as long as SAELens asks. Both parts run in turn on one thread, and are measured in CPU-seconds (`python
-m sae_utils run python -m benchmarks.released` measures on the pinned code path). The last line is one JSON object:
ratio_harvest and ratio_sae (bare / ours, the median over repeats; 1 means that all else is free), tokens_per_cpu_s of
the harvest, and passes: how many of them serve the three hooks with two SAEs each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import _process
from benchmarks.harvest import timed
from sae_utils import store
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import trainer
from sae_utils.store import Artefact, artefact

HOOKS = [f"blocks.{block}.hook_resid_post" for block in (5, 10, 15)]
BLOCKS, D, CONTEXT, SKIP, VOCABULARY = 17, 576, 256, 1, 49_152
WIDTH, K, BATCH = 2048, 32, 1024
WARM = 25  # steps before the clock starts: SAELens first estimates a norm on 20 batches


@artefact
def model(folder: Path) -> dict[str, Any]:
    """A Llama with random weights, and a tokenizer of one word."""
    from tokenizers import Tokenizer
    from tokenizers import models as algorithms
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    sizes = {"hidden_size": D, "intermediate_size": 1536, "num_hidden_layers": BLOCKS, "vocab_size": VOCABULARY}
    LlamaForCausalLM(LlamaConfig(**heads, **sizes, tie_word_embeddings=True)).save_pretrained(folder)
    words = Tokenizer(algorithms.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return {}


@artefact
def rows(folder: Path, count: int) -> dict[str, Any]:
    """Training rows of random tokens."""
    rng, place = np.random.default_rng(0), np.arange(CONTEXT, dtype=np.int32)
    np.save(folder / "tokens.npy", rng.integers(1, VOCABULARY, (count, CONTEXT), dtype=np.int32))
    np.save(folder / "lengths.npy", np.full(count, CONTEXT, np.int32))
    np.save(folder / "places.npy", np.tile(place, (count, 1)))
    np.save(folder / "split.npy", np.zeros(count, np.int8))
    return {}


@torch.no_grad()
def bare_harvest(network: Any, given: Artefact) -> None:
    """Run the blocks up to the last hook."""
    for batch in batching.in_order(np.arange(len(given.array("lengths")))):
        network(batching.take(given, batch)[0], use_cache=False)


def harvest(bridge: Any, given: Artefact, root: Path) -> None:
    """Write the activations of all hooks."""
    samples = given.array("tokens").size - len(given.array("lengths"))  # without the skipped first ones
    with tempfile.TemporaryDirectory(dir=root) as place, mock.patch.object(models, "load", lambda _: bridge):
        trainer.inputs({hook: Path(place) / hook for hook in HOOKS}, model(), given, SKIP, samples)


def speed_of_harvest(root: Path, count: int, repeats: int) -> tuple[float, float, int]:
    """The ratio bare / ours, tokens per CPU-second of ours, and the number of passes."""
    from transformers import LlamaModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    network = LlamaModel.from_pretrained(model().path, trust_remote_code=False).eval()
    network.layers, network.norm = network.layers[: BLOCKS - 1], torch.nn.Identity()
    bridge, given, few = models.load(model()), rows(count), rows(2)
    works = {"bare": lambda of: bare_harvest(network, of), "ours": lambda of: harvest(bridge, of, root)}
    spent = _in_turn(works, given, few, repeats, "harvest")
    passes = len(list(models.passes(bridge, given, [hook for hook in HOOKS for _ in range(2)])))
    return _ratio(spent), count * CONTEXT / statistics.median(spent["ours"]), passes


def _in_turn(works: dict[str, Any], given: Any, few: Any, repeats: int, label: str) -> dict[str, list[float]]:
    """CPU-seconds of each work, which are first in turn."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():  # warm up
        work(few)
    for repeat in range(repeats):
        for name in sorted(works, reverse=bool(repeat % 2)):
            own: list[float] = []
            whole = timed(lambda work=works[name], own=own: own.append(work(given)))  # type: ignore[misc]
            spent[name].append(whole if own[0] is None else own[0])
        print(
            f"{label}: " + ", ".join(f"{name} {seconds[-1]:.2f} CPU-s" for name, seconds in spent.items()), flush=True
        )
    return spent


def _ratio(spent: dict[str, list[float]]) -> float:
    return statistics.median(b / o for b, o in zip(spent["bare"], spent["ours"], strict=True))


# --- SAEs


def activations(tokens: int) -> np.ndarray:
    """float16 (tokens, D): a few of 3,000 directions at a token, and one dimension with half of the variance."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((3000, D), np.float32) / np.sqrt(D)
    chosen = (3000 * rng.random((tokens, 24)) ** 3).astype(int)
    found = np.stack([directions[row].sum(0) for row in chosen])
    found[:, 0] += 5 + rng.standard_normal(tokens)
    return found.astype(np.float16)


def spec(steps: int) -> trainer.Trained:
    """The SAE that is trained."""
    return trainer.Trained(
        kind="trained", model="model", hook=HOOKS[0], width=WIDTH, k=K, seed=0, samples=steps * BATCH, batch=BATCH,
        learning_rate=2e-3,
    )  # fmt: skip


def train(values: np.ndarray, steps: int) -> float:
    """CPU-seconds of the steps behind the first ones, of ours."""
    given, clock = spec(steps), []

    def noted(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for batch in batches:
            clock.append(time.process_time())
            yield batch

    trainer.fit(given, noted(trainer.provider(values, given)))
    return (time.process_time() - clock[-steps + WARM]) if steps > WARM else 0.0


def bare_train(values: torch.Tensor, steps: int) -> float:
    """CPU-seconds of the steps behind the first ones, of plain torch."""
    torch.manual_seed(0)
    rows_ = torch.nn.functional.normalize(torch.randn(WIDTH, D), dim=1)
    parameters = [torch.nn.Parameter(x) for x in (rows_.T.clone(), rows_, torch.zeros(WIDTH), torch.zeros(D))]
    adam, silent, start = torch.optim.Adam(parameters, lr=2e-3), torch.zeros(WIDTH), 0.0
    window = max(10, min(1000, steps // 8))
    for step in range(steps):
        if step == WARM:
            start = time.process_time()
        at = step * BATCH % (len(values) - BATCH)
        loss = bare_loss(parameters, values[at : at + BATCH].float(), silent, window)
        loss.backward()
        adam.step()
        adam.zero_grad()
    return time.process_time() - start


def bare_loss(parameters: list[torch.nn.Parameter], x: torch.Tensor, silent: torch.Tensor, window: int) -> torch.Tensor:
    """Squared error of a TopK SAE on `x` (n, d), and of its dead features on what is left; counts steps of silence."""
    w_enc, w_dec, b_enc, b_dec = parameters
    before = (x - b_dec) @ w_enc + b_enc  # (n, features)
    top, at = before.topk(K, dim=1, sorted=False)
    out = torch.zeros_like(before).scatter(1, at, top.relu()) @ w_dec + b_dec
    loss = (out - x).pow(2).sum(1).mean()
    dead = silent > window
    silent += 1
    silent[at[top > 0]] = 0
    if count := int(dead.sum()):
        most = min(D // 2, count)
        top, at = before.where(dead, -torch.inf).topk(most, dim=1, sorted=False)
        again = torch.zeros_like(before).scatter(1, at, top) @ w_dec
        loss = loss + min(2 * count / D, 1.0) * (again - (x - out).detach()).pow(2).sum(1).mean()
    return loss


def speed_of_training(steps: int, repeats: int) -> tuple[float, float]:
    """The ratio bare / ours, and samples per CPU-second of ours."""
    values = activations(40 * BATCH)
    held = torch.from_numpy(values)
    works = {"bare": lambda n: bare_train(held, n), "ours": lambda n: train(values, n)}
    spent = _in_turn(works, WARM + steps, 2, repeats, "SAE")
    return _ratio(spent), steps * BATCH / statistics.median(spent["ours"])


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and steps, one repeat")
    parser.add_argument("--part", choices=["harvest", "sae"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    count, steps, repeats = (8, 20, 1) if chosen.quick else (16, 40, 3)
    if chosen.part is None:
        quick = ["--quick"] * chosen.quick
        parts = [_process.run("released", "--part", part, *quick) for part in ("harvest", "sae")]
        print(json.dumps(parts[0] | parts[1]))
        return
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        store.use(threads=1, root=Path(folder))
        if chosen.part == "harvest":
            ratio, rate, passes = speed_of_harvest(Path(folder), count, repeats)
            found = {"ratio_harvest": round(ratio, 3), "tokens_per_cpu_s": round(rate), "passes": passes}
        else:
            ratio, rate = speed_of_training(steps, repeats)
            found = {"ratio_sae": round(ratio, 3), "samples_per_cpu_s": round(rate)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
