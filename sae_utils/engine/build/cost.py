"""The cost of building a profile: seconds, memory and disk.

In: a checked profile; the number of parameters of models and SAEs from elsewhere, where it is known. Out: seconds of
the passes, trainings and encodings of a build; the largest memory in use at once; bytes of the store.
Never: a file that is fetched, an artefact.

A pass over a model ends at the block of its deepest hook, and serves all SAEs that read the model.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

from sae_utils import pipeline, sweep
from sae_utils.engine.build import speed
from sae_utils.engine.lms import cross_entropy, models, pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries, releases, trainer
from sae_utils.engine.text import corpora, wikipedia
from sae_utils.studies.layer_sweep import layers

TOKENS = {corpora.HubDataset: 1000, corpora.Stories: 62}  # in a document of OpenWebText, of the stories
TRAINING = 3  # passes that a training step costs: forward, and back at twice the cost
DIMENSIONS = 1024  # of a model whose shape is not known
HOOKS = 13  # at which an SAE in the residual stream is judged
ENCODINGS = 3  # of all judged tokens, for labels, losses and correlations
START = 0.15  # minutes on one core to open a notebook
# minutes of a notebook's work that is neither a pass nor a training, measured on the demo profile: of 03 and 04 for one
# pair of layers, of 06b for a thousand repeats
OWN = {"00_models_and_dictionaries": 0.7, "01_feature_matching": 0.3, "01b_hubs_and_filters": 0.1,
       "01c_arranged_alike": 0.3, "02_one_to_one": 1.0, "02b_whole_dictionaries": 0.5, "03_layer_sweep": 0.17,
       "04_llm_vs_sae": 0.12, "04b_neurons_by_index_or_concept": 0.5, "05_semantic_subspaces": 0.6,
       "05b_word_relations": 0.3, "05c_class_geometry": 0.2, "06_known_truth": 0.3, "06b_level_and_power": 0.7,
       "06c_intervals_and_verdicts": 0.2, "06d_recovery": 2.0, "06e_counterparts": 1.5,
       "06f_shared_fraction": 2.5, "07_controls": 1.5, "07b_sensitivity": 1.0, "07c_twins": 0.5,
       "08_function": 1.0, "08b_attribution": 1.3, "08c_interventions": 1.5, "09_joint_dictionary": 1.2,
       "09b_alike_loss": 0.8, "10_geometry": 0.3, "10b_topology": 0.9, "10c_families": 0.4,
       "11_across_tokenizers": 0.3, "12_published_tables": 0.05, "12b_ladder": 0.1,
       "12c_steps_and_truth": 0.1, "12d_false_positives": 2.5,
       "13_training_phases": 1.0, "13b_data": 0.6}  # fmt: skip
ARRAYS = 1.5e9  # bytes of the arrays in the largest notebook of the demo profile
DERIVED = 1.5  # bytes of the store, in bytes of codes, models and SAEs: other artefacts are made of them
KERNEL = 0.9e9  # bytes of a kernel with its libraries, and of the process that starts it
PROCESS = 0.55e9  # bytes of a process of a sweep with its libraries
OWN_WORK = "the notebooks themselves"  # done one after the other; all else runs side by side
SEEDS, NEURONS = "00_models_and_dictionaries", "04_llm_vs_sae"
CLOSER = "04b_neurons_by_index_or_concept"
PUBLISHED, STEPS = "12_published_tables", "12c_steps_and_truth"

Works = Iterator[tuple[str, float]]  # labels of parts of a build, which may repeat, and their seconds on one core


def tokens(corpus: corpora.Corpus) -> int:
    """The assumed number of tokens of a corpus."""
    if isinstance(corpus, corpora.TextFiles):
        return sum(file.stat().st_size for file in corpus.files()) // 4
    if isinstance(corpus, wikipedia.Wikipedia):
        return corpus.tokens()
    assert isinstance(corpus, corpora.HubDataset | corpora.Stories)
    return corpus.documents * TOKENS[type(corpus)]


def of_rows(corpus: corpora.Corpus, rows: int) -> float:
    """The number of tokens in this many held-out rows."""
    row = corpus.context if corpus.packed else min(corpus.context, TOKENS.get(type(corpus), corpus.context))
    return min(rows * row, corpus.shares[2] * tokens(corpus))


def depth(record: Any, layers: int) -> int:
    """The number of blocks up to the hook of an SAE; all blocks of the model if the record does not name one."""
    names = " ".join(str(getattr(record, key, "")) for key in ("hook", "hookpoint", "id", "path"))
    found = re.search(r"(?:blocks|layers?|h)[._](\d+)", names)
    return min(int(found[1]) + 1, layers) if found else layers


def names_in(profile: Profile, value: Any) -> set[str]:
    """The dictionaries that occur anywhere in a section, members of families included."""
    if isinstance(value, dict):
        return names_in(profile, [*value, *value.values()])
    if isinstance(value, list):
        return set().union(*(names_in(profile, item) for item in value))
    return {value, *profile.families.get(value, ())} & profile.dictionaries.keys() if isinstance(value, str) else set()


class Build:
    """The build of a profile, with the speed of each of its models.

    `sizes`: parameters of models and SAEs from elsewhere, by key (`models.a`, `dictionaries.a`). `speeds` are measured
    here unless they are given. `only`: the notebooks that are run, where it is not all of them.
    """

    def __init__(
        self, profile: Profile, sizes: Mapping[str, int], speeds: Mapping[str, speed.ModelSpeed] | None = None,
        only: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        self.profile, self.sizes = profile, sizes
        self.run = profile.sections.keys() if only is None else only
        self.saes = {name: record for name, record in profile.dictionaries.items() if hasattr(record, "model")}
        self.judged = (1 - profile.corpus.shares[0]) * tokens(profile.corpus)  # tokens that are not trained on
        self.speeds = speeds or {name: speed.of_model(profile, name, self._parameters(name)) for name in profile.models}

    @cached_property
    def works(self) -> dict[str, float]:
        """Seconds of the parts of a build on one core, by label."""
        total: dict[str, float] = {}
        for part in (self.model_works(), self.passes(), self.encodings(), self.notebooks()):
            for label, seconds in part:
                total[label] = total.get(label, 0.0) + seconds
        return total

    @property
    def seconds(self) -> float:
        """Seconds of the whole build on one core."""
        return sum(self.works.values())

    @property
    def clock(self) -> float:
        """Seconds of the whole build by the clock: passes and trainings run in processes, side by side."""
        own = self.works[OWN_WORK]
        return own + (self.seconds - own) / sweep.processes()

    @cached_property
    def available(self) -> dict[str, int]:
        """Activations in the training documents of each model."""
        corpora_ = {name: self.profile.training_corpus(name) for name in self.profile.models}
        return {name: round(corpus.shares[0] * tokens(corpus)) for name, corpus in corpora_.items()}

    def _parameters(self, name: str) -> int:
        record = self.profile.models[name]
        return self._parameters(record.of) if hasattr(record, "of") else self.sizes.get(f"models.{name}", 0)

    def _dimensions(self, record: Any) -> int:
        """Dimensions at the hook of an SAE."""
        model = self.speeds[record.model]
        return model.d_mlp if "mlp.hook_p" in getattr(record, "hook", "") else model.d or DIMENSIONS

    # --- seconds

    def model_works(self) -> Works:
        """Training toys; losses of every model, and along a learning curve."""
        section = self.profile.sections[SEEDS]
        drawn = self.profile.members(section["curve"])[:1] if section["curve"] else []
        for name, record in self.profile.models.items():
            corpus, forward = self.profile.training_corpus(name), self.speeds[name].forward
            if isinstance(record, toys.Toy):
                yield "training models", TRAINING * forward * corpus.shares[0] * tokens(corpus) * record.epochs
            times = 1 + (getattr(record, "checkpoints", 0) if name in drawn else 0)
            yield "losses", times * forward * of_rows(corpus, section["judged_rows"])

    def passes(self) -> Works:
        """Passes over models: to train SAEs, for their codes, their quality, neurons, and the positions of 12."""
        section = self.profile.sections[SEEDS]
        deepest: dict[str, float] = {}
        training: dict[tuple[str, int], float] = {}
        for record in self.saes.values():
            model, corpus = self.speeds[record.model], self.profile.training_corpus(record.model)
            down = depth(record, model.layers) * model.block
            deepest[record.model] = max(down, deepest.get(record.model, 0.0))
            if isinstance(record, trainer.Trained):
                key = record.model, record.samples
                training[key] = max(down, training.get(key, 0.0))
            rows = of_rows(corpus, section["judged_rows"])
            confirmed = pipeline.CONFIRMED_ON * isinstance(record, releases.Released)
            located = of_rows(corpus, section["fvu_rows"] + confirmed)
            yield "quality", (down + 2 * model.forward) * rows + (down + model.block) * located
        for (name, samples), down in training.items():
            yield "passes that train SAEs", down * min(samples, self.available[name])
        yield "passes for codes", sum(deepest.values()) * self.judged
        families = {x for name in self.profile.common.primary.pair for x in self.profile.members(name)}
        own = self.judged, set(self.profile.pair)
        of = {NEURONS: own, CLOSER: own, STEPS: (self._positions(STEPS), families)}
        of[PUBLISHED] = self._positions(PUBLISHED), set()
        for notebook, (count, primary) in ((x, found) for x, found in of.items() if x in self.run):
            named = (names_in(self.profile, self.profile.sections[notebook]) | primary) & self.saes.keys()
            read = {self.saes[name].model for name in named}
            yield f"passes of {notebook}", sum(deepest[name] for name in read) * count

    def _positions(self, notebook: str) -> float:
        corpus = self.profile.corpus
        return min(self.profile.sections[notebook]["positions"], corpus.shares[1] * tokens(corpus))

    def encodings(self) -> Works:
        """Training SAEs, and encoding with them."""
        section, corpus = self.profile.sections[SEEDS], self.profile.corpus
        judged_rows, fvu_rows = (of_rows(corpus, section[key]) for key in ("judged_rows", "fvu_rows"))
        for name, record in self.saes.items():
            if isinstance(record, trainer.Trained):
                training, encoding = speed.of_sae(record, self._dimensions(record))
                yield "training SAEs", training * record.samples
            else:
                encoding = 1.5 * self.sizes.get(f"dictionaries.{name}", 0) * speed.multiplication()
            yield "encoding", encoding * (ENCODINGS * self.judged + 3 * judged_rows + 2 * HOOKS * fvu_rows)

    def notebooks(self) -> Works:
        """The notebooks' own work."""
        for notebook, section in ((x, found) for x, found in self.profile.sections.items() if x in self.run):
            times = 1.0
            if notebook == "03_layer_sweep":
                times = len(layers.cells(self.profile, notebook, section["pairs"]))
            elif notebook == NEURONS:
                pairs = [self.profile.common.primary.pair, *itertools.chain(*section["beside"].values())]
                times = sum(min(len(self.profile.members(name)) for name in pair) for pair in pairs)
            elif notebook == STEPS:
                times = max(len(self.profile.common.replicates), 1)
            elif notebook == "06b_level_and_power":
                times = section["small"]["repeats"] / 1000
            yield OWN_WORK, 60 * (START + OWN[notebook] * times)

    # --- bytes

    @property
    def memory(self) -> float:
        """The largest of what twins, losses, quality, harvests and trainings, one in each process, hold at once.

        The arrays of a notebook are held when no other process works.
        """
        needs, processes = [0.0], sweep.processes()
        for name, model in self.speeds.items():
            weights, row = 4.0 * model.parameters, 4.0 * models.WINDOW * self.profile.corpus.context
            readers = [record for record in self.saes.values() if record.model == name]
            window = max((row * self._dimensions(record) for record in readers), default=0.0)
            held = max(window, min(models.HELD, HOOKS * window))
            record = self.profile.models[name]
            copies = 2 if isinstance(record, toys.Twin) or getattr(record, "unpacked", False) else 1
            needs += [weights * copies + weights, weights + 3 * cross_entropy.LOGITS, weights + 2 * held]
        for name, record in self.saes.items():
            width = getattr(record, "width", 0)
            size = 2.0 * width * self._dimensions(record) or float(self.sizes.get(f"dictionaries.{name}", 0))
            batch = max(getattr(record, "batch", 0), dictionaries.SEGMENT)
            needs.append(4 * (4 * size + 6 * batch * width))
        started = PROCESS * processes if processes > 1 else 0.0
        return KERNEL + started + max(ARRAYS, processes * max(needs))

    @property
    def disk(self) -> float:
        """Bytes of the store: models made here, SAEs, codes, and derivatives; what the SAEs of one model read."""
        total = 0.0
        for name, record in self.profile.models.items():
            if not isinstance(record, pretrained.Pretrained) or record.unpacked:
                total += 4 * self.speeds[name].parameters * (1 + getattr(record, "checkpoints", 0))
        read_by: dict[str, dict[str, float]] = {}  # scratch of the trainings of a model, by hook
        for record in self.saes.values():
            total += 8 * getattr(record, "k", 64) * self.judged
            if isinstance(record, trainer.Trained):
                d = self._dimensions(record)
                total += 8 * record.width * d * (1 + record.checkpoints)
                scratch = read_by.setdefault(record.model, {})
                scratch[record.hook] = 2 * d * min(record.samples, self.available[record.model])
        return DERIVED * total + max((sum(hooks.values()) for hooks in read_by.values()), default=0.0)
