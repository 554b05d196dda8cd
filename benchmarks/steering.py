"""A sweep of features over contexts at a hook, against one forward pass a feature and context in the same run.

``python -m benchmarks.steering``: GPT-NeoX with random weights in two shapes, that of the demo's toys (2 blocks, 128
dimensions, 4,000 words) and that of Pythia-70m; 64 directions are added, one at a time, on 32 contexts of 64 tokens.
Ours is `resuming.resume` and `acting.over`, the pass over the contexts included; the loop is transformers' network with
a plain torch hook, one direction and context a pass, the last token unembedded. Both must give the same
log-probabilities. One thread, CPU-seconds. The last line is one JSON object: ratio_loop (loop / ours, median over
repeats) at the output of the last MLP of the toy, where the SAEs of the demo read; ratio_first_block at that of the
first, after which all places run; ratio_pythia in the middle of Pythia-70m, on fewer cases; with CUDA also
cuda_ratio_pythia, in seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import _process
from sae_utils import store
from sae_utils.engine.lms import models
from sae_utils.store import Artefact
from sae_utils.studies.function import acting, resuming
from sae_utils.studies.function.acting import Edit
from sae_utils.studies.function.resuming import Contexts

LENGTH, STRENGTH = 64, 2.0
TOY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
PYTHIA = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048}


class Case(NamedTuple):
    """A model, the block after whose MLP directions are added, and how many."""

    shape: dict[str, int]
    vocabulary: int
    block: int
    features: int
    contexts: int


CASES = {
    "loop": Case(TOY, 4000, 1, 64, 32),
    "first_block": Case(TOY, 4000, 0, 64, 32),
    "pythia": Case(PYTHIA, 50_304, 3, 16, 8),
}


def model(folder: Path, case: Case) -> Artefact:
    """A network with random weights, and a tokenizer of one word."""
    from tokenizers import Tokenizer
    from tokenizers import models as algorithms
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    GPTNeoXForCausalLM(GPTNeoXConfig(**case.shape, vocab_size=case.vocabulary)).save_pretrained(folder)
    words = Tokenizer(algorithms.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return Artefact(folder.name, folder, {"source": folder.name})


@torch.no_grad()
def loop(network: Any, given: Contexts, block: int, directions: torch.Tensor) -> torch.Tensor:
    """One pass a direction and context: (features, contexts, vocabulary)."""
    added = directions[:0]
    handle = network.gpt_neox.layers[block].mlp.register_forward_hook(lambda module, args, out: out + added)
    found = []
    for direction in directions:
        added = STRENGTH * direction
        for tokens in given.tokens:
            logits = network(tokens[None], use_cache=False, logits_to_keep=1).logits[0, -1]
            found.append(logits.float().log_softmax(-1))
    handle.remove()
    return torch.stack(found).reshape(len(directions), len(given.at), -1)


def batched(bridge: Any, given: Contexts, block: int, directions: torch.Tensor) -> torch.Tensor:
    """The same by one pass a context, and what lies behind the hook for every direction."""
    at = resuming.resume(bridge, given, f"blocks.{block}.hook_mlp_out")
    edits = [Edit("add", direction, STRENGTH) for direction in directions]
    found = torch.cat([x.log_probabilities for x in acting.over(at, edits)])
    return found.reshape(len(edits), len(given.at), -1)


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """CPU-seconds, or seconds of the clock on a CUDA device, and the result."""
    clock = time.perf_counter if store.device() == "cuda" else time.process_time
    start = clock()
    found = work()
    if store.device() == "cuda":
        torch.cuda.synchronize()
    return clock() - start, found


def measure(name: str, device: str, repeats: int, root: Path) -> float:
    """The ratio loop / ours of a case. Raises AssertionError where the two differ."""
    from transformers import GPTNeoXForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    store.use(threads=1, device=device, root=root)
    case = CASES[name]
    made = model(root / name, case)
    network = GPTNeoXForCausalLM.from_pretrained(made.path, trust_remote_code=False).to(device).eval()
    bridge = models.load(made)
    seeded = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, case.vocabulary, (case.contexts, LENGTH), generator=seeded)
    given = Contexts(tokens.to(device), torch.full((case.contexts,), LENGTH - 1, device=device))
    directions = torch.randn(case.features, case.shape["hidden_size"], generator=seeded).to(device)
    works = {
        "loop": lambda x: loop(network, given, case.block, x),
        "ours": lambda x: batched(bridge, given, case.block, x),
    }
    for work in works.values():
        work(directions[:1])  # warm up
    ratios = []
    for _ in range(repeats):
        spent, found = zip(*(timed(lambda work=work: work(directions)) for work in works.values()), strict=True)  # type: ignore[misc]
        torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
        ratios.append(spent[0] / spent[1])
        print(f"{name}, {device}: loop {spent[0]:.2f} s, ours {spent[1]:.3f} s", flush=True)
    return statistics.median(ratios)


def main() -> None:
    """Measure each case in a process of its own and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--part", nargs=3, metavar=("CASE", "DEVICE", "REPEATS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        name, device, repeats = chosen.part
        with tempfile.TemporaryDirectory() as root:
            print(json.dumps(measure(name, device, int(repeats), Path(root))))
        return
    repeats = 1 if chosen.quick else 3
    found = {f"ratio_{name}": round(_process.run("steering", "--part", name, "cpu", repeats), 2) for name in CASES}
    if torch.cuda.is_available():
        found["cuda_ratio_pythia"] = round(_process.run("steering", "--part", "pythia", "cuda", repeats), 2)
    else:
        print("no CUDA device: not measured there")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
