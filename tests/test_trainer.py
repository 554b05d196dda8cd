"""SAELens reads a trained SAE back; a seed gives the same bytes; its inputs are those of training documents."""

import shutil

import numpy as np
import pytest
import torch
from networks import seen
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, cross_entropy, models, toys
from sae_utils.engine.saes import activations, dictionaries, trainer
from sae_utils.engine.text import corpora
from sae_utils.store import Artefact

NAMES = ("one_layer", "two_layer")


def train(reader, spec):
    return trainer.train([spec], reader.model, reader.rows, reader.skip)[spec]


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


JUDGED = 40  # held-out rows


def test_saelens_reads_the_folder(world, name):
    made, record = pipeline.reader(world, name).dictionary, world.dictionaries[name]
    sae = SAE.load_from_disk(made.path)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.metadata.hook_name) == (16, record.width, record.hook)
    np.testing.assert_array_equal(dictionaries.decoder(made), sae.W_dec.detach().numpy())
    np.testing.assert_allclose(np.linalg.norm(dictionaries.decoder(made), axis=1), 1, rtol=1e-5)
    assert made.meta["steps"] == record.samples // record.batch


def test_an_sae_learns(world, name):
    reader = pipeline.reader(world, name)
    untrained = train(reader, world.dictionaries[name].model_copy(update={"samples": 64}))
    fvu = [reader._replace(dictionary=x).judge(40).meta["fvu"] for x in (reader.dictionary, untrained)]
    assert fvu[0] < 0.6 * fvu[1]


def bytes_of(folder) -> bytes:
    return (folder / "sae_weights.safetensors").read_bytes()


def test_a_seed_gives_its_weights_bit_for_bit(world, tmp_path):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"samples": 640})

    def made(folder: str, **changes) -> bytes:
        record = spec.model_copy(update=changes)
        list(trainer.train.__wrapped__({record: tmp_path / folder}, reader.model, reader.rows, reader.skip))
        return bytes_of(tmp_path / folder)

    torch.manual_seed(1)
    first = made("a")
    torch.manual_seed(2)
    assert made("b") == first
    assert made("c", seed=1) != first


@pytest.fixture
def numbered(monkeypatch):
    """Activations are replaced by their row and position."""

    def harvest(bridge, rows, batches, hooks, skip, largest):
        for chosen in batches:
            _, mask = batching.take(rows, chosen)
            mask[:, :skip] = False
            place = torch.stack(
                torch.meshgrid(torch.from_numpy(chosen), torch.arange(mask.shape[1]), indexing="ij"), -1
            )
            yield models.Batch(dict.fromkeys(hooks, place.float()), chosen, mask)

    monkeypatch.setattr(models, "harvest", harvest)


def test_inputs_are_training_documents_without_first_positions(world, numbered, tmp_path):
    reader, skip = pipeline.reader(world, "one_layer"), 2
    rows = reader.rows
    written = trainer.inputs({reader.hook: tmp_path}, reader.model, rows, skip, 10**6)
    lengths, splits = rows.array("lengths"), rows.array("split")
    values = np.load(tmp_path / "values.npy")
    assert values.dtype == np.float16 and written == len(values) == (lengths - skip)[splits == 0].sum()
    row, position = values.astype(int).T
    assert (splits[row] == corpora.SPLITS.index("training")).all()
    assert (position >= skip).all() and (position < lengths[row]).all()
    assert len(np.unique(values, axis=0)) == len(values)


def test_inputs_end_at_the_number_of_samples(world, numbered, tmp_path):
    reader = pipeline.reader(world, "one_layer")
    assert 1000 <= trainer.inputs({reader.hook: tmp_path}, reader.model, reader.rows, 1, 1000) < 1000 + 64 * 112


def louder(model, tmp_path, factor: float):
    """A toy whose last MLP writes `factor` times as much."""
    place = shutil.copytree(model.path, tmp_path / "louder")
    weights = load_file(place / "model.safetensors")
    last = max(name for name in weights if name.endswith("mlp.dense_4h_to_h.weight"))
    save_file(weights | {last: weights[last] * factor}, place / "model.safetensors", metadata={"format": "pt"})
    return Artefact("louder", place, {"source": "org/loud"})


def test_activations_beyond_float16_are_refused(world, tmp_path):
    reader = pipeline.reader(world, "one_layer")
    sites = activations.sites(reader.rows, reader.skip)
    model, folders = louder(reader.model, tmp_path, 1e6), {reader.hook: tmp_path}
    message = (
        r"org/loud \(gpt_neox, float32\): blocks\.0\.hook_mlp_out, row \d+, position \d+: an activation of \d.* is "
        r"beyond the 65504 of float16, in which activations are stored; read a hook with smaller values"
    )
    with pytest.raises(ProfileError, match=message):
        trainer.inputs(folders, model, reader.rows, 1, 10)
    with pytest.raises(ProfileError, match=message):
        list(activations.neurons.__wrapped__(folders, model, reader.rows, sites, 1))
    # codes are stored in float32, and losses are not stored
    assert np.isfinite(cross_entropy.mean(models.load(model), reader.rows, np.arange(4)))


def test_batches_are_shuffled_and_every_epoch_holds_every_activation(world):
    values = np.arange(10_001, dtype=np.float32)[:, None]
    spec = world.dictionaries["one_layer"].model_copy(update={"batch": 50})

    def drawn(n: int, seed: int = 0) -> np.ndarray:
        torch.manual_seed(seed)  # as `train` does
        stream = trainer.provider(values, spec.model_copy(update={"seed": seed}))
        return torch.cat([next(stream) for _ in range(n)]).int().numpy().ravel()

    once = drawn(400)
    assert len(np.unique(once)) > 0.9 * len(values) and np.bincount(once).max() <= 3
    assert np.abs(np.diff(once)).mean() > 1000
    np.testing.assert_array_equal(drawn(20), once[:1000])
    assert (drawn(20, seed=1) != once[:1000]).any()


def test_training_that_diverges_is_refused(world):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"learning_rate": 1e30, "samples": 640})
    with pytest.raises(
        ProfileError,
        match=r"SAE of one_layer at blocks\.0\.hook_mlp_out: training diverged; lower `learning_rate` \(now 1e\+30\)",
    ):
        train(reader, spec)
    toy = world.models["one_layer"].model_copy(update={"learning_rate": 1e30, "d_model": 8, "d_mlp": 8})
    with pytest.raises(ProfileError, match=r"model of seed 0: its loss became nan in training; lower `learning_rate`"):
        toys.train(toy, pipeline.rows(world, "one_layer"), pipeline.tokenizer(world, "one_layer"))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "relu"])
def test_every_architecture_is_read_back(world, architecture):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"architecture": architecture, "samples": 1280, "l1": 0.1})
    made = train(reader, spec)
    x = torch.from_numpy(seen(world, "one_layer", JUDGED)[:500])
    with torch.no_grad():
        codes = dictionaries.load(made).encode(x)
    assert codes.shape == (500, 32) and (codes >= 0).all()
    if architecture == "topk":
        assert ((codes > 0).sum(1) <= spec.k).all()


def test_a_frozen_decoder_stays_where_it_started(world):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"frozen_decoder": True})
    short, long = (train(reader, spec.model_copy(update={"samples": n})) for n in (640, 3200))
    np.testing.assert_allclose(dictionaries.decoder(short), dictionaries.decoder(long), atol=1e-6)
    encoders = [dictionaries.load(made).W_enc.detach().numpy() for made in (short, long)]
    assert np.abs(encoders[0] - encoders[1]).max() > 1e-3


def test_checkpoints_do_not_disturb_the_run(world):
    reader = pipeline.reader(world, "one_layer")
    plain = world.dictionaries["one_layer"].model_copy(update={"samples": 1280})
    made, kept = (train(reader, plain.model_copy(update={"checkpoints": n})) for n in (0, 2))
    assert bytes_of(made.path) == bytes_of(kept.path)
    samples = kept.meta["checkpoints"]
    assert len(samples) == 2 and 0 < samples[0] < samples[1] <= 1280
    fvu = [reader._replace(dictionary=trainer.at_checkpoint(kept, number)).judge(20).meta["fvu"] for number in (0, 1)]
    assert fvu[1] < fvu[0]
    with pytest.raises(ProfileError, match="checkpoint 2: only 2 were kept"):
        trainer.at_checkpoint(kept, 2)


def test_samples_beyond_the_corpus_are_reported_and_counted(world, capsys):
    reader, spec = pipeline.reader(world, "one_layer"), world.dictionaries["one_layer"]
    training = reader.rows.array("split") == corpora.SPLITS.index("training")
    there = int((reader.rows.array("places")[training] >= reader.skip).sum())
    spec = spec.model_copy(update={"samples": 6400, "batch": 6400, "checkpoints": 0})
    made = train(reader, spec.model_copy(update={"samples": 2 * there}))
    assert f"hold {there:,} activations where `samples` says {2 * there:,}" in capsys.readouterr().err
    assert made.meta["passes"] == 2 and made.meta["steps"] == 2 * there // 6400
    train(reader, spec)
    assert "activations where" not in capsys.readouterr().err


def test_activations_are_written_once_for_all_saes_of_a_model_and_not_kept(world, monkeypatch):
    reader, calls = pipeline.reader(world, "two_layer"), []
    spec = world.dictionaries["two_layer"].model_copy(update={"samples": 640, "checkpoints": 0})
    specs = [spec.model_copy(update=x) for x in ({"seed": 7}, {"seed": 8}, {"hook": "blocks.0.hook_mlp_out"})]
    inputs = trainer.inputs
    monkeypatch.setattr(trainer, "inputs", lambda folders, *rest: calls.append([*folders]) or inputs(folders, *rest))
    together = trainer.train(specs, reader.model, reader.rows, reader.skip)
    assert calls == [["blocks.1.hook_mlp_out", "blocks.0.hook_mlp_out"]]
    assert not [file for made in together.values() for file in made.path.rglob("values.npy")]
    assert trainer.train(specs[:1], reader.model, reader.rows, reader.skip)[specs[0]] is together[specs[0]]
    assert len(calls) == 1, "an SAE of the store needs no activations"


def test_an_sae_is_the_same_whatever_is_trained_beside_it(world, tmp_path):
    reader = pipeline.reader(world, "two_layer")
    spec = world.dictionaries["two_layer"].model_copy(update={"samples": 640, "checkpoints": 0})
    other = spec.model_copy(update={"hook": "blocks.0.hook_mlp_out", "samples": 1280})
    for place, specs in (("alone", [spec]), ("beside", [other, spec])):
        folders = {x: tmp_path / place / x.hook for x in specs}
        list(trainer.train.__wrapped__(folders, reader.model, reader.rows, reader.skip))
    assert bytes_of(tmp_path / "alone" / spec.hook) == bytes_of(tmp_path / "beside" / spec.hook)
