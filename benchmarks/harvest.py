"""Codes of a model on disk, against the bare forward pass plus the bare encoding of the same rows in the same run.

``python -m benchmarks.harvest``: a model of the shape of Pythia-70m with random weights; a TopK SAE of 32,768 features
(k 16) on the output of block 3; rows of 128 tokens. Ours is `activations.codes`, from rows on disk to codes on disk,
with model and SAE already loaded. Bare is transformers' four blocks and SAELens' `encode` on the same rows, in batches
and segments of the same size, and stores nothing. They run in turn on one thread and are measured in CPU-seconds. The
last line is one JSON object: ratio_bare (bare / ours, median over repeats; 1 means that all else is free),
tokens_per_s, and peak_mb at two numbers of rows, each in its own process. With CUDA also cuda_ratio_bare and
cuda_tokens_per_s, in seconds of the clock.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import _process
from sae_utils import store
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import activations, dictionaries, weights
from sae_utils.store import Artefact, artefact

BLOCK, SKIP, WIDTH, K = 3, 1, 32_768, 16
HOOK = f"blocks.{BLOCK}.hook_resid_post"
CONTEXT, VOCABULARY = 128, 50_304


@artefact
def model(folder: Path) -> dict[str, Any]:
    """Pythia-70m with random weights, and a tokenizer of one word."""
    from tokenizers import Tokenizer
    from tokenizers import models as algorithms
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    shape = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048}
    GPTNeoXForCausalLM(GPTNeoXConfig(**shape, vocab_size=VOCABULARY, rotary_pct=0.25)).save_pretrained(folder)
    words = Tokenizer(algorithms.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return {}


@artefact
def dictionary(folder: Path) -> dict[str, Any]:
    """A TopK SAE with random weights."""
    made = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(WIDTH, 512, generator=made), dim=1)
    tensors = {"W_enc": rows.T, "W_dec": rows, "b_enc": torch.zeros(WIDTH), "b_dec": torch.zeros(512)}
    weights.build("topk", tensors, True, k=K).save_model(folder)
    return {}


@artefact
def rows(folder: Path, count: int) -> dict[str, Any]:
    """Held-out rows of random tokens, one in eight of half the length."""
    rng = np.random.default_rng(0)
    np.save(folder / "tokens.npy", rng.integers(1, VOCABULARY, (count, CONTEXT), dtype=np.int32))
    lengths, place = np.where(rng.random(count) < 1 / 8, CONTEXT // 2, CONTEXT), np.arange(CONTEXT, dtype=np.int32)
    np.save(folder / "lengths.npy", lengths.astype(np.int32))
    np.save(folder / "places.npy", np.where(place < lengths[:, None], place, -1))
    np.save(folder / "classes.npy", np.full((count, CONTEXT), -1, np.int8))
    np.save(folder / "documents.npy", np.repeat(np.arange(count, dtype=np.int32)[:, None], CONTEXT, axis=1))
    np.save(folder / "split.npy", np.ones(count, np.int8))
    return {}


@torch.no_grad()
def bare(network: Any, sae: Any, given: Artefact) -> None:
    """Run the blocks up to the hook, and encode."""
    order = np.argsort(given.array("lengths"), kind="stable")  # as little padding as in ours
    for batch in batching.in_order(order):
        tokens, mask = batching.take(given, batch)
        mask[:, :SKIP] = False
        x = network(tokens, use_cache=False).last_hidden_state[mask]
        for segment in x.split(dictionaries.SEGMENT):
            sae.encode(segment)


def timed(work: Any) -> float:
    """CPU-seconds, or seconds of the clock on a CUDA device."""
    clock = time.perf_counter if store.device() == "cuda" else time.process_time
    start = clock()
    work()
    if store.device() == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def ours(bridge: Any, sae: Any, given: Artefact, root: Path) -> None:
    """Run `activations.codes` with the model and SAE that are loaded, into an empty folder."""
    sites = activations.sites(given, SKIP)
    with (
        tempfile.TemporaryDirectory(dir=root) as place,
        mock.patch.object(models, "load", lambda _: bridge),
        mock.patch.object(dictionaries, "load", lambda _: sae),
    ):
        made = activations.codes.__wrapped__({(dictionary(), HOOK): Path(place)}, model(), given, sites, SKIP)  # type: ignore[attr-defined]
        list(made)


def speed(root: Path, device: str, count: int, repeats: int) -> tuple[float, float]:
    """The ratio bare / ours, and tokens per second of ours."""
    from transformers import GPTNeoXModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it would warn that the head is missing
    logging.disable_progress_bar()
    store.use(threads=1, device=device, root=root)
    given = rows(count)
    network = GPTNeoXModel.from_pretrained(model().path, trust_remote_code=False).to(device).eval()
    network.layers, network.final_layer_norm = network.layers[: BLOCK + 1], torch.nn.Identity()
    bridge, sae = models.load(model()), dictionaries.load(dictionary())
    tokens = activations.sites(given, SKIP).meta["tokens"]
    works = {"bare": lambda of: bare(network, sae, of), "ours": lambda of: ours(bridge, sae, of, root)}
    spent: dict[str, list[float]] = {name: [] for name in works}
    few = rows(8)
    for work in works.values():  # warm up
        work(few)
    for repeat in range(repeats):
        for name in sorted(works, reverse=bool(repeat % 2)):  # each is first in turn
            spent[name].append(timed(functools.partial(works[name], given)))
        both = ", ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in spent.items())
        print(f"{device}: {both}, {tokens:,} tokens", flush=True)
    ratio = statistics.median(b / o for b, o in zip(spent["bare"], spent["ours"], strict=True))
    return ratio, tokens / statistics.median(spent["ours"])


def peak(root: Path, count: int) -> None:
    """Harvest in this process and print its peak memory in MB."""
    store.use(threads=1, root=root)
    ours(models.load(model()), dictionaries.load(dictionary()), rows(count), root)
    print(round(_process.peak_mb()))


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rows, one repeat")
    parser.add_argument("--peak", nargs=2, metavar=("ROOT", "ROWS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        peak(Path(chosen.peak[0]), int(chosen.peak[1]))
        return
    count, repeats = (32, 1) if chosen.quick else (128, 5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ratio, rate = speed(root, "cpu", count, repeats)
        found: dict[str, Any] = {"ratio_bare": round(ratio, 3), "tokens_per_s": round(rate)}
        found["peak_mb"] = {str(n): _process.run("harvest", "--peak", root, n) for n in (2 * count, 4 * count)}
        if torch.cuda.is_available():
            ratio, rate = speed(root, "cuda", 64 * count, repeats)
            found |= {"cuda_ratio_bare": round(ratio, 3), "cuda_tokens_per_s": round(rate)}
        else:
            print("no CUDA device: not measured there")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
