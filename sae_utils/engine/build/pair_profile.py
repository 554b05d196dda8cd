"""The profile of two SAEs that a user names.

In: both SAEs with their models; the text, the number of tokens, the device; whether controls are asked for. Out: the
keys of a profile that extends `pair`; its file in `params/`.
Never: a file that is replaced unasked; weights.
"""

import datetime
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.build import cost, named_models
from sae_utils.engine.build.addresses import Named
from sae_utils.engine.build.named_models import Record
from sae_utils.engine.core import files
from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.inputs import strict_yaml
from sae_utils.engine.params import Profile, make_corpus

WIKIPEDIA = "package:gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
CONTEXT = 128  # tokens of a row of real text, where the models read so many
SKIP = 1  # beginning of sequence only, where no profile says more
TOKENS = 200_000  # that pair features and judge the pairs
TRAINING = {False: 0.2, True: 0.6}  # least share of the text for training: of n-grams, and with controls of SAEs
TRAINED = {"samples": 307_200, "batch": 256, "learning_rate": 1.0e-3}  # 1,200 steps: after a thousand, few are dead
WIDTH, K = 2048, 32  # of SAEs that are trained here; those of a narrower or sparser SAE are taken
BLOCKS = 100  # seed of random blocks
OF_CEILING = 0.15  # d, in excesses between two SAE seeds of one model
MARK = "  # thresholds: set with controls, from the excess between two SAE seeds, before anything is compared\n"


class Options(NamedTuple):
    """What a user says of a comparison, beside the two SAEs."""

    text: str = ""
    tokens: int | None = None
    device: str = "auto"
    controls: bool = False


def keys(a: Named, b: Named, options: Options) -> Record:
    """The keys of the profile, without `thresholds`.

    Raises ProfileError where the two cannot read one text, and for a text or number of tokens that cannot be had.
    """
    corpus, skip = _corpus(a, b, options)
    stories = {"concept_set": "stories"} if corpus["kind"] == "stories" else {}
    models: Record = {}
    saes: Record = {}
    for side, named in (("a", a), ("b", b)):
        _add(models, named.model.tokenizers, side, {})  # before all toys whose tokenizer it is
    pair = [_add_both(models, saes, named, side) for side, named in (("a", a), ("b", b))]
    found = {
        "extends": "pair", "stamp": "", "device": options.device, "corpus": corpus, "skip": skip,
        "models": models, "dictionaries": saes,
        "03_layer_sweep": {"pairs": {"a x b": [[name] for name in pair]}},
        "04_llm_vs_sae": {"beside": {}},
        "05_semantic_subspaces": stories, "05b_word_relations": dict(stories),
        "12c_steps_and_truth": {"negative": ""},
    }  # fmt: skip
    if options.controls:
        _add_controls(found, (a, b), pair)
    primary = {"pair": pair, "matching": "mutual", "measure": "rsa_spearman", "permutations": 9999}
    return {key: value for key, value in found.items() if value != {}} | {"primary": primary}


def _add_both(models: Record, saes: Record, named: Named, side: str) -> str:
    """Add a model and its SAE, with those they derive from; return the name of the SAE."""
    renamed = _add(models, named.model.records, side, {})
    return next(iter(_add(saes, named.saes, side, renamed).values()))


def _add(found: Record, records: Record, side: str, renamed: Record) -> Record:
    """Add records; one whose name another has gets the side's letter. Returns their names by the old ones."""
    taken = {name for name, record in records.items() if found.get(name, record) != record}
    names = {name: f"{name}_{side}" if taken else name for name in records}
    for name, record in records.items():
        given = {"of": names.get(record.get("of")), "model": renamed.get(record.get("model"), record.get("model"))}
        found[names[name]] = record | {key: value for key, value in given.items() if key in record}
    return names


# --- the text


def _corpus(a: Named, b: Named, options: Options) -> tuple[Record, int]:
    """The text that both read, and the number of masked positions."""
    origins = [x.origin for x in (a, b) if x.origin]
    bound = [x for x in origins if x.bound]
    if bound:
        other = next((x for x in bound if (x.corpus, x.skip) != (bound[0].corpus, bound[0].skip)), None)
        if other:
            raise ProfileError(
                f"B={next(iter(b.saes))}: A and B are trained on two texts ({_described(bound[0].corpus)}; "
                f"{_described(other.corpus)}), and features are paired on one; name two SAEs of one profile"
            )
        for option, value in (("text", options.text), ("tokens", options.tokens)):
            if value and not (option == "text" and _of_profile(value) == bound[0].corpus):
                raise ProfileError(
                    f"--{option}: a model or SAE of a profile is trained on its text ({_described(bound[0].corpus)}), "
                    f"and would be another one on another; leave --{option} out, or change `corpus` in a profile"
                )
        return bound[0].corpus, bound[0].skip
    if origins and not options.text and not options.tokens:
        return origins[0].corpus, origins[0].skip
    corpus = dict(origins[0].corpus) if origins and not options.text else named_text(options.text)
    if corpus["kind"] != "stories" and not (options.text and _of_profile(options.text)):
        corpus |= _amount(corpus, options)
        corpus["context"] = min([CONTEXT, *filter(None, (named_models.positions(x.model) for x in (a, b)))])
    return corpus, origins[0].skip if origins else SKIP


def named_text(text: str) -> Record:
    """The corpus that an option names; 107 articles of Wikipedia, which gensim brings along, where it names none.

    A profile; `hub:name@revision`, a dataset; a dump of a wiki (.xml or .xml.bz2); a file, with a document a line; a
    folder or glob of .txt files, with a document a paragraph. Raises ProfileError where there is no text.
    """
    path = Path(text).expanduser()
    if not text:
        return {"kind": "wikipedia", "path": WIKIPEDIA} | _form()
    if found := _of_profile(text):
        return found
    if text.startswith("hub:"):
        name, _, revision = text.removeprefix("hub:").partition("@")
        if not revision:
            raise ProfileError(f"--text {text}: a dataset is read at a commit or tag; write {text}@<revision>")
        return {"kind": "hub", "name": name, "revision": revision, "documents": 1} | _form()
    if path.name.endswith((".xml", ".xml.bz2")):
        return {"kind": "wikipedia", "path": str(path.absolute())} | _form()
    if path.is_dir() and not any(path.glob("*.txt")):
        raise ProfileError(f"--text {text}: the folder holds no .txt file; name a glob, as {text}/*.md")
    where = path / "*.txt" if path.is_dir() else path
    unit = "line" if path.is_file() else "paragraph"
    return {"kind": "text", "path": str(where.absolute()), "unit": unit} | _form()


def _form() -> Record:
    return {"context": CONTEXT, "packed": True, "shares": [0.2, 0.4, 0.4], "split_seed": 0}


def _of_profile(text: str | int) -> Record | None:
    """The corpus of a profile that a text option names."""
    file = params.PARAMS / f"{text}.yaml"
    if not file.is_file() or Path(str(text)).exists():
        return None
    found: Record = params.read(str(text))["corpus"]
    return found


def _described(corpus: Record) -> str:
    return make_corpus(corpus, "corpus").description


def _amount(corpus: Record, options: Options) -> Record:
    """Shares, and of a dataset the documents, that give so many tokens to pair features and judge the pairs."""
    wanted, least = options.tokens or TOKENS, TRAINING[options.controls]
    if corpus["kind"] == "hub":
        per = cost.TOKENS[type(make_corpus(corpus, "--text"))]
        return {"documents": math.ceil(wanted / (1 - least) / per), "shares": _shares((1 - least) / 2)}
    total = cost.tokens(make_corpus(corpus, "--text"))
    if not total:
        raise ProfileError(f"--text {options.text}: it holds no text; name another file or folder")
    return {"shares": _shares(min((1 - least) / 2, wanted / total / 2))}


def _shares(judged: float) -> list[float]:
    """Shares for training, for pairing and for judging, of which the last two are equal."""
    half = max(math.floor(judged * 10_000), 1) / 10_000
    return [round(1 - 2 * half, 4), half, half]


# --- controls


def _add_controls(found: Record, sides: Iterable[Named], pair: list[str]) -> None:
    """Add twins with random blocks, a second SAE seed of each model, and the comparison of `07c_twins`.

    An SAE that others trained has no second seed, and its recipe is not known: then all arms have SAEs that are trained
    here at the same hooks, with one recipe.
    """
    named = dict(zip("ab", sides, strict=True))
    recipes = {side: _recipe(x, side) for side, x in named.items()}
    shared = {key: min(recipe[key] for recipe in recipes.values()) for key in ("width", "k")}
    own = all(next(iter(x.saes.values()))["kind"] == "trained" for x in named.values())
    section: Record = {"twins": {"random blocks": {}}, "minimum_firings": 20}
    for (side, recipe), name in zip(recipes.items(), pair, strict=True):
        model, first = recipe["model"], name if own else f"{name}_trained"
        record, twin = recipe if own else recipe | shared, f"{model}_random_blocks"
        found["models"][twin] = {"kind": "twin", "of": model, "random": "blocks", "seed": BLOCKS + record["seed"]}
        added = {first: record, f"{first}_seed1": record | {"seed": record["seed"] + 1}, twin: record | {"model": twin}}
        found["dictionaries"] |= {key: value for key, value in added.items() if key != name}
        section[side] = [first, f"{first}_seed1"]
        section["twins"]["random blocks"][side] = [twin]
    found["07c_twins"] = section
    found["12c_steps_and_truth"] = {"negative": twin}


def _recipe(named: Named, side: str) -> Record:
    """How an SAE like this one is trained here. Raises ProfileError where its hook is not known."""
    *_, record = named.saes.values()
    if record["kind"] == "trained":
        return {key: value for key, value in record.items() if key != "checkpoints"}
    if not named.hook:
        raise ProfileError(
            f"{side.upper()}={next(iter(named.saes))}: controls train SAEs at its hook, which only its weights' files "
            f"name; say --hook-{side} (make: HOOK_{side.upper()}=), as blocks.3.hook_resid_post"
        )
    width, k = min(named.width or WIDTH, WIDTH), min(named.k or K, K)
    return {"kind": "trained", "model": record["model"], "hook": named.hook, "width": width, "k": min(k, width),
            "seed": 0, **TRAINED}  # fmt: skip


# --- the file


def text(values: Record, command: str) -> str:
    """The file: the keys of a profile, and the command that wrote them."""
    body = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)
    head = f"# Two SAEs. Written by `{command}`.\n# Edit it and repeat: the command with the name alone."
    return f"{head}\n{body}{MARK}"


def write(name: str, content: str, *, overwrite: bool = False) -> Profile:
    """Write `params/<name>.yaml`, unless it says the same, and return the checked profile.

    Raises ProfileError where the file differs and `overwrite` is not given, and as `profiles.load`; a file that is
    refused is not kept.
    """
    file = params.PARAMS / f"{name}.yaml"
    before = file.read_text("utf-8") if file.is_file() else None
    if before is not None:
        differing = _differing(strict_yaml.read(file, f"params/{name}.yaml"), yaml.safe_load(content))
        if not differing:
            return profiles.load(name)
        if not overwrite:
            raise ProfileError(
                f"params/{name}.yaml: exists, and says something else in {', '.join(differing)}; give --name another "
                "name, --overwrite (make: OVERWRITE=1) to replace it, or --name alone to run it as it is"
            )
    files.write(file, content)
    try:
        return profiles.load(name)
    except ProfileError:
        file.unlink() if before is None else files.write(file, before)
        raise


def _differing(before: Record, now: Record) -> list[str]:
    """The keys of two profiles that differ, thresholds apart, which are set after the file is written."""

    def without(values: Record) -> Record:
        primary = values.get("primary")
        if not isinstance(primary, dict):
            return values
        return values | {"primary": {key: value for key, value in primary.items() if key != "thresholds"}}

    before, now = without(before), without(now)
    return [key for key in (*now, *(before.keys() - now.keys())) if before.get(key) != now.get(key)]


def set_threshold(name: str, ceilings: Iterable[float]) -> float | None:
    """Set d in a profile that has none, from the excess between SAE seeds of one model; None if it has no place for it.

    `d` is 0.15 of their mean, which must be positive; without a positive one nothing is set.
    """
    file, found = params.PARAMS / f"{name}.yaml", list(ceilings)
    content, ceiling = file.read_text("utf-8"), sum(found) / max(len(found), 1)
    d = round(OF_CEILING * ceiling, 3) if math.isfinite(ceiling) else 0.0
    if MARK not in content or d <= 0:
        return None
    day = datetime.date.today().isoformat()
    reason = f"{OF_CEILING} x {ceiling:.3f} between two SAE seeds of one model; before A and B were compared"
    values = yaml.safe_dump({"d": d, "date": day, "reason": reason}, default_flow_style=True, width=400).strip()
    files.write(file, content.replace(MARK, f"  thresholds:\n    excess: {values}\n"))
    return d


def check_name(name: str) -> None:
    """Refuse a name that no file can have. Raises ProfileError."""
    if not name or not name.replace("_", "").replace("-", "").isalnum() or name.startswith("-"):
        raise ProfileError(f"--name {name}: letters, digits, _ and - only; {nearest(name, ['my_pair'])}")
