"""ViSA-Flow learns from videos first, from few actions then, and forgets what it saw at every new instruction."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

import flowbench  # noqa: E402
from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError  # noqa: E402
from flowbench.agents.training.loop import TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.agents.visa_flow.agent import VisaFlowAgent  # noqa: E402
from flowbench.agents.visa_flow.data import open_looks, with_clips  # noqa: E402
from flowbench.agents.visa_flow.extract import extract  # noqa: E402
from flowbench.agents.visa_flow.looks import ClipSpec  # noqa: E402
from flowbench.agents.visa_flow.model import VisaFlowConfig, VisaFlowNetwork, attention_mask  # noqa: E402
from flowbench.agents.visa_flow.recipe import VisaFlowRecipe  # noqa: E402
from flowbench.errors import BadValue, DataError, UnknownName  # noqa: E402
from flowbench.registry import get_suite  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402

TOY, RECIPE = get_suite("toy"), VisaFlowRecipe()


@pytest.fixture(scope="session")
def clips(toy_demos, tmp_path_factory):
    """Two looks' worth of cameras of the toy's demonstrations."""
    out = tmp_path_factory.mktemp("clips") / "toy-clips.h5"
    spec = ClipSpec(cameras=("front", "side"), image_size=(32, 24), stride=2, chunk=5)
    extract(toy_demos, out, spec, workers=0, progress=False)
    return out


def settings(*changes, steps=3):
    return load_settings(RECIPE, "tiny", "toy", ("stride=2", *changes), steps=steps, batch_size=4)


def sources(clips, folder=None, **changes):
    return Sources((clips,), TOY, **{"validation_fraction": 0.0, "cache": folder} | changes)


@pytest.fixture(scope="session")
def checkpoint(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("visa")
    return train(RECIPE, settings(), sources(clips, folder / "f"), TrainOptions(folder / "out", progress=False))


def network(**changes):
    facts = {
        "instructions": ["lift the block", "move"], "cameras": ["front", "side"], "action_labels": ["x", "y", "grip"],
        "proprio": {"mean": [0.0] * 4, "std": [1.0] * 4}, "actions": {"mean": [0.1, 0.2, 0.0], "std": [0.5, 2.0, 1.0]},
        "action_low": [-1.0] * 3, "action_high": [1.0] * 3,
    }  # fmt: skip
    values = {
        "width": 16,
        "layers": 2,
        "heads": 2,
        "history": 4,
        "queries": 2,
        "image_size": (32, 32),
        "target_size": (16, 16),
    }
    torch.manual_seed(0)
    return VisaFlowNetwork(VisaFlowConfig(**{**values, "chunk": 5, "binary_parts": (2,)} | changes), facts).eval()


def random_looks(model, looks=4):
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(1, looks, 2, model.encoder.tokens, 16, generator=generator)
    proprio = torch.randn(1, looks, 4, generator=generator)
    return model.embed(["move"]), pictures, proprio, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, dtype=torch.bool)


def test_no_token_attends_to_a_query_or_to_what_comes_later():
    is_query = torch.tensor([False, False, True] * 2)
    mask = attention_mask(is_query)
    assert not mask[:, is_query].any() and not mask.triu(1).any()
    assert mask[5].tolist() == [True, True, False, True, True, False], "a query sees all that was seen, in every look"


def test_a_query_changes_no_other_answer():
    model = network()
    with torch.no_grad():
        before = model(*random_looks(model))
        # Not the same in every channel: a layer norm takes that away.
        model.future_queries.add_(torch.randn(model.future_queries.shape, generator=torch.Generator().manual_seed(2)))
        after = model(*random_looks(model))
    torch.testing.assert_close(before[:, :, 0], after[:, :, 0])
    assert not torch.allclose(before[:, :, 1:], after[:, :, 1:])


def test_an_answer_depends_on_this_look_and_those_before_it_only():
    model = network()
    sentence, pictures, proprio, *has = random_looks(model)
    later = pictures.clone()
    later[:, 3] = later[:, 3].flip(-1)
    with torch.no_grad():
        before, after = model(sentence, pictures, proprio, *has), model(sentence, later, proprio, *has)
        shorter = model(sentence, pictures[:, :2], proprio[:, :2], *has)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    torch.testing.assert_close(before[:, :2], shorter)
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_a_camera_that_a_video_lacks_and_an_unmeasured_state_do_not_matter():
    model = network()
    sentence, pictures, proprio, has_camera, has_state = random_looks(model)
    has_camera[:, 1], has_state[:] = False, False
    other = pictures.clone()
    other[:, :, 1] = 7.0
    with torch.no_grad():
        one = model(sentence, pictures, proprio, has_camera, has_state)
        two = model(sentence, other, proprio + 3, has_camera, has_state)
    torch.testing.assert_close(one, two)


def test_what_is_binary_is_classified_and_the_rest_is_undone_and_clipped():
    head = network().action
    raw = torch.tensor([[[0.0, -9.0, -0.3]] * 5])
    chosen = head.choose(raw)[0, 0]
    torch.testing.assert_close(chosen, torch.tensor([0.1, -1.0, -1.0]))
    assert head.choose(-raw)[0, 0, 2] == 1


def test_pictures_are_put_together_from_their_patches():
    model = network(target_size=(24, 16))
    with torch.no_grad():
        model.decoder.leave.weight.zero_()
        colours = torch.tensor([0.2, 0.5, 0.9]).repeat_interleave(64)
        model.decoder.leave.bias.copy_(colours)
        pictures = model.imagine(torch.randn(2, 3, 4, 16))
    assert pictures.shape == (2, 3, 2, 3, 16, 24)
    assert all(torch.allclose(pictures[..., c, :, :], torch.tensor(v)) for c, v in enumerate((0.2, 0.5, 0.9)))


def test_pre_training_reads_no_action_and_fine_tuning_only_those_of_the_labelled_share(clips):
    config = settings().config
    given = sources(clips, label_fraction=0.5)
    facts = RECIPE.facts(config, given)
    names = {f"toy-clips.h5/demo_{number}" for number in range(4)}
    assert set(facts["labelled"]) < names and len(facts["labelled"]) == 2
    videos = open_looks(config, facts, with_clips(given, config), "train", labelled=False)
    actions = open_looks(config, facts, with_clips(given, config), "train", labelled=True)
    assert sum(len(dataset.infos) for dataset in videos.datasets) == 4
    assert not any("action_chunk" in dataset.keys or "proprio" in dataset.keys for dataset in videos.datasets)
    batch = videos.batch(np.arange(len(videos)))
    assert "action_chunk" not in batch and not batch["has_state"].any() and not batch["proprio"].any()
    used = {info.name for dataset in actions.datasets for info in dataset.infos}
    assert {f"toy-clips.h5/{name}" for name in used} == set(facts["labelled"])
    assert actions.batch(np.arange(2))["action_chunk"].shape == (2, config.history, 5, 4)


def test_actions_that_are_withheld_change_nothing(clips, tmp_path):
    """Neither statistics nor weights may know them."""
    kept = set(RECIPE.facts(settings().config, sources(clips, label_fraction=0.5))["labelled"])
    changed = tmp_path / "toy-clips.h5"
    changed.write_bytes(clips.read_bytes())
    with h5py.File(changed, "a") as file:
        for name, group in file["data"].items():
            if f"toy-clips.h5/{name}" not in kept:
                group["obs/action_chunk"][...] = 0.77
                group["obs/proprio"][...] = 0.77
    weights = []
    for path in (clips, changed):
        out = tmp_path / f"out{len(weights)}"
        given = sources(path, None, label_fraction=0.5)
        weights.append(train(RECIPE, settings(steps=2), given, TrainOptions(out, progress=False)).weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_target_of_both_stages_is_the_same_drawing_some_looks_ahead(clips):
    config = settings().config
    facts = RECIPE.facts(config, sources(clips))
    batches = [
        open_looks(config, facts, sources(clips), None, labelled=labelled).batch(np.array([0]))
        for labelled in (False, True)
    ]
    assert torch.equal(batches[0]["front/semantic"], batches[1]["front/semantic"])
    with h5py.File(clips) as file:
        stored = file["data/demo_0/obs/front_semantic"][()]
    from flowbench.agents.training.images import ImageFit

    ahead = np.minimum(np.arange(config.ahead, config.ahead + config.history), len(stored) - 1)
    expected = ImageFit(config.target_size)(stored)[ahead]
    np.testing.assert_array_equal(batches[0]["front/semantic"][0].numpy(), expected)


def test_robots_and_plain_videos_are_mixed_in_one_batch(clips, tmp_path):
    frames = tmp_path / "wave_a_hand"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        cv2.imwrite(str(frames / f"{number}.png"), rng.integers(0, 255, (24, 32, 3), np.uint8))
    spec = ClipSpec(image_size=(32, 24), stride=2, chunk=5)
    extract(frames, tmp_path / "video.h5", spec, progress=False)
    both = Sources((clips, tmp_path / "video.h5"), TOY, validation_fraction=0.0)
    config = settings().config
    facts = RECIPE.facts(config, both)
    assert facts["cameras"] == ["front", "side"] and "wave a hand" in facts["instructions"]
    looks = open_looks(config, facts, both, "train", labelled=False)
    batch = looks.batch(np.array([len(looks) - 1, 0]))
    assert batch["has_camera"].tolist() == [[True, False], [True, True]]
    assert not batch["side/rgb"][0].any() and batch["front/rgb"][0].any()
    assert facts["instructions"][batch["sentence"][0]] == "wave a hand"
    loss, _ = RECIPE.build(config, facts).loss(batch, True, torch.Generator().manual_seed(0), with_actions=False)
    assert torch.isfinite(loss)


def test_pre_training_on_videos_alone_is_a_start_for_those_with_actions(clips, tmp_path):
    with h5py.File(clips) as source, h5py.File(tmp_path / "videos.h5", "w") as made:
        source.copy("data", made)
        for group in made["data"].values():
            del group["actions"], group["obs/proprio"], group["obs/action_chunk"], group["obs/action_valid"]
    chosen = settings()
    alone = replace(chosen, stages={"pretrain": chosen.stages["pretrain"]})
    before = train(RECIPE, alone, sources(tmp_path / "videos.h5"), TrainOptions(tmp_path / "pre", progress=False))
    assert before.facts["labelled"] == [] and before.facts["actions"] is None
    with pytest.raises(DataError, match="None of the clips has actions and a camera of front, side"):
        train(RECIPE, chosen, sources(tmp_path / "videos.h5"), TrainOptions(tmp_path / "none", progress=False))
    options = TrainOptions(tmp_path / "out", progress=False, init_from=str(before.folder))
    slow = settings("pretrain=false", "lr=1e-9", "weight_decay=0", steps=1)
    after = train(RECIPE, slow, sources(clips), options)
    assert torch.allclose(before.weights["blocks.0.qkv.weight"], after.weights["blocks.0.qkv.weight"], atol=1e-6)
    assert len(after.facts["labelled"]) == 4


def test_fine_tuning_alone_stands_on_pre_training(checkpoint, clips, tmp_path):
    chosen = settings("lr=1e-9", "weight_decay=0", steps=1)
    alone = replace(chosen, stages={"finetune": chosen.stages["finetune"]})
    options = TrainOptions(tmp_path / "out", progress=False, init_from=str(checkpoint.folder))
    after = train(RECIPE, alone, sources(clips), options)
    assert torch.allclose(checkpoint.weights["blocks.0.qkv.weight"], after.weights["blocks.0.qkv.weight"], atol=1e-6)


def test_actions_of_some_files_only_may_be_used(clips, toy_demos, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(clips.read_bytes())
    given = Sources((clips, other), TOY, validation_fraction=0.0, action_paths=(other,))
    config = settings().config
    facts = RECIPE.facts(config, given)
    assert {name.split("/")[0] for name in facts["labelled"]} == {"other.h5"}
    given = with_clips(given, config)
    assert len(open_looks(config, facts, given, "train", labelled=False)) == 2 * len(
        open_looks(config, facts, given, "train", labelled=True)
    )


def test_history_grows_with_looks_and_is_forgotten_at_every_instruction(checkpoint):
    agent = VisaFlowAgent(checkpoint)
    size = agent.needs.image_size
    env = flowbench.make("toy", "lift", cameras=("front", "side"), modalities=("rgb",), image_size=size, lazy=True)
    observation, _ = env.reset(seed=0)
    lengths, first = [], []
    for _ in range(2):
        agent.reset(env.unwrapped.task, env.unwrapped.cameras, 0)
        first.append(agent.act(observation))
        lengths.append(len(agent._looks))
        for _ in range(4):
            agent.act(observation)
            lengths.append(len(agent._looks))
    assert lengths == [1, 2, 3, 3, 3] * 2, "the tiny preset sees three looks"
    np.testing.assert_array_equal(first[0], first[1])
    env.close()


def test_the_episode_s_camera_is_the_first_of_the_network_s(checkpoint):
    agent = VisaFlowAgent(checkpoint)
    agent.reset(TOY.task("lift"), {"front+yaw5": None, "side": None}, 0)
    with pytest.raises(
        CheckpointError, match="looks through front, side at once, .* not side. Evaluate it with --cameras front"
    ):
        agent.reset(TOY.task("lift"), {"side": None}, 0)


def test_a_chunk_lasts_until_the_next_look(checkpoint):
    assert VisaFlowAgent(checkpoint)._execute == 2
    assert VisaFlowAgent(checkpoint, execute=5)._execute == 5
    with pytest.raises(BadValue, match="execute is 6; this checkpoint predicts 5 actions, so it is from 1 to that"):
        VisaFlowAgent(checkpoint, execute=6)


def test_the_agent_keeps_the_contract_and_its_checkpoint_says_what_was_labelled(checkpoint):
    check_agent(lambda: VisaFlowAgent(checkpoint), task="lift", camera="front", steps=2)
    assert Checkpoint.open(checkpoint.folder).facts["labelled"] == [
        f"toy-clips.h5/demo_{number}" for number in range(4)
    ]


@pytest.mark.parametrize("changes", [("pretrain=false",), ("future=rgb",), ("future=none", "pretrain=false")])
def test_the_ablations_train(changes, clips, tmp_path):
    chosen = settings(*changes, steps=2)
    assert list(chosen.stages) == (["finetune"] if "pretrain=false" in changes else ["pretrain", "finetune"])
    trained = train(RECIPE, chosen, sources(clips), TrainOptions(tmp_path / "out", progress=False))
    assert VisaFlowAgent(trained).needs.extra_cameras == ("side",)


def test_the_picture_s_future_is_the_picture_some_looks_later(clips):
    config = settings("future=rgb", "pretrain=false").config
    facts = RECIPE.facts(config, sources(clips))
    batch = open_looks(config, facts, sources(clips), None, labelled=True).batch(np.array([0]))
    assert batch["front/rgb"].shape[1] == config.history + config.ahead and "front/semantic" not in batch


def test_demonstrations_become_clips_once_where_frames_are_kept(toy_demos, tmp_path):
    config = settings().config
    given = sources(toy_demos, tmp_path)
    (made,) = with_clips(given, config).paths
    stamp = made.stat().st_mtime_ns
    assert with_clips(given, config).paths == (made,) and made.stat().st_mtime_ns == stamp
    with pytest.raises(
        DataError, match=r"toy.h5 holds no semantic flow. Make it: flowbench data visa .*toy.h5 --out DIR"
    ):
        with_clips(sources(toy_demos), config)


@pytest.mark.parametrize(
    "change, message",
    [
        ("stride=3", "was made with stride 2, and the training is for 3. Train with --set stride=2"),
        ("chunk=6", "keeps 5 actions of every look, and the training is for chunks of 6. Train with --set chunk=5"),
        ("chunk=1", r"chunk is 1, and 2 actions are executed from look to look \(stride\)"),
        ("future=depth", "future 'depth'"),
        ("future=none", "there is nothing to pre-train on; set pretrain=false as well"),
        ("encoder=resnet", "image encoder 'resnet'"),
        ("target_size=[20, 16]", r"target_size is \[20, 16\]; both sides are multiples of patch, 8"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(change, message, clips):
    with pytest.raises((BadValue, UnknownName), match=message):
        with_clips(sources(clips), settings(change).config)


def test_the_frozen_encoder_says_where_its_weights_come_from(tmp_path):
    pytest.importorskip("transformers")
    model = network(encoder="mae", encoder_path=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="hf download facebook/vit-mae-base; or give a folder with --set encoder_path"):
        model.encode(torch.zeros(1, 3, 32, 32))


def test_the_frozen_encoder_stays_out_of_the_checkpoint_and_gives_ten_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    encoder = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(**encoder, **decoder, decoder_intermediate_size=16)
    transformers.ViTMAEModel(config).save_pretrained(tmp_path)
    model = network(encoder="mae", encoder_path=str(tmp_path))
    tokens = model.encode(torch.rand(2, 3, 32, 32))
    assert tokens.shape == (2, 10, 16)
    assert not any("mae" in name.lower() or "_frozen" in name for name in model.state_dict())
