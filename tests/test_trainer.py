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


def source(reader, samples: int = 6400):
    return trainer.inputs([reader.hook], reader.model, reader.rows, reader.skip, samples)[reader.hook]


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
    untrained = trainer.train(world.dictionaries[name].model_copy(update={"samples": 64}), source(reader))
    fvu = [reader._replace(dictionary=x).judge(40).meta["fvu"] for x in (reader.dictionary, untrained)]
    assert fvu[0] < 0.6 * fvu[1]


def bytes_of(folder) -> bytes:
    return (folder / "sae_weights.safetensors").read_bytes()


def test_a_seed_gives_its_weights_bit_for_bit(world, tmp_path):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"samples": 640})

    def made(folder: str, **changes) -> bytes:
        (tmp_path / folder).mkdir()
        record = spec.model_copy(update=changes)
        trainer.train.__wrapped__(tmp_path / folder, record, source(reader))
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
    ((_, meta),) = trainer.inputs.__wrapped__({reader.hook: tmp_path}, reader.model, rows, skip, 10**6)
    lengths, splits = rows.array("lengths"), rows.array("split")
    values = np.load(tmp_path / "values.npy")
    assert values.dtype == np.float16 and meta["activations"] == len(values) == (lengths - skip)[splits == 0].sum()
    row, position = values.astype(int).T
    assert (splits[row] == corpora.SPLITS.index("training")).all()
    assert (position >= skip).all() and (position < lengths[row]).all()
    assert len(np.unique(values, axis=0)) == len(values)


def test_inputs_end_at_the_number_of_samples(world, numbered, tmp_path):
    reader = pipeline.reader(world, "one_layer")
    ((_, meta),) = trainer.inputs.__wrapped__({reader.hook: tmp_path}, reader.model, reader.rows, 1, 1000)
    assert 1000 <= meta["activations"] < 1000 + 64 * 112


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
        list(trainer.inputs.__wrapped__(folders, model, reader.rows, 1, 10))
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
        trainer.train(spec, source(reader))
    toy = world.models["one_layer"].model_copy(update={"learning_rate": 1e30, "d_model": 8, "d_mlp": 8})
    with pytest.raises(ProfileError, match=r"model of seed 0: its loss became nan in training; lower `learning_rate`"):
        toys.train(toy, pipeline.rows(world, "one_layer"), pipeline.tokenizer(world, "one_layer"))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "relu"])
def test_every_architecture_is_read_back(world, architecture):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"architecture": architecture, "samples": 1280, "l1": 0.1})
    made = trainer.train(spec, source(reader))
    x = torch.from_numpy(seen(world, "one_layer", JUDGED)[:500])
    with torch.no_grad():
        codes = dictionaries.load(made).encode(x)
    assert codes.shape == (500, 32) and (codes >= 0).all()
    if architecture == "topk":
        assert ((codes > 0).sum(1) <= spec.k).all()


def test_a_frozen_decoder_stays_where_it_started(world):
    reader = pipeline.reader(world, "one_layer")
    spec = world.dictionaries["one_layer"].model_copy(update={"frozen_decoder": True})
    short, long = (trainer.train(spec.model_copy(update={"samples": n}), source(reader)) for n in (640, 3200))
    np.testing.assert_allclose(dictionaries.decoder(short), dictionaries.decoder(long), atol=1e-6)
    encoders = [dictionaries.load(made).W_enc.detach().numpy() for made in (short, long)]
    assert np.abs(encoders[0] - encoders[1]).max() > 1e-3


def test_checkpoints_do_not_disturb_the_run(world):
    reader = pipeline.reader(world, "one_layer")
    plain = world.dictionaries["one_layer"].model_copy(update={"samples": 1280})
    made, kept = (trainer.train(plain.model_copy(update={"checkpoints": n}), source(reader)) for n in (0, 2))
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
    inputs = source(reader, 10**6)
    assert f"hold {there:,} activations where `samples` says 1,000,000" in capsys.readouterr().err
    made = trainer.train(spec.model_copy(update={"samples": 640}), inputs)
    assert made.meta["passes"] == pytest.approx(640 / there) and made.meta["steps"] == 10
    source(reader, 6000)
    assert "activations where" not in capsys.readouterr().err
