"""SOF's laws: what tokens may see, what they stand for, and what each stage is given."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vector_quantize_pytorch")

from flowbench.agents.nets.observation import to_float  # noqa: E402
from flowbench.agents.sof.agent import SofAgent  # noqa: E402
from flowbench.agents.sof.config import SofConfig  # noqa: E402
from flowbench.agents.sof.network import SofNetwork, end_point_errors, shifted_alike  # noqa: E402
from flowbench.agents.sof.policy import draw  # noqa: E402
from flowbench.agents.sof.recipe import SofRecipe  # noqa: E402
from flowbench.agents.sof.segments import CONTENT, VIDEO, SkillBlocks, block_flow  # noqa: E402
from flowbench.agents.sof.skills import moved  # noqa: E402
from flowbench.agents.training.loop import TrainOptions, train  # noqa: E402
from flowbench.agents.training.presets import load_settings  # noqa: E402
from flowbench.agents.training.recipe import Moment  # noqa: E402
from flowbench.agents.training.sources import Sources  # noqa: E402
from flowbench.errors import BadValue, DataError, UnknownName  # noqa: E402
from flowbench.registry import get_suite  # noqa: E402
from flowbench.testing import check_agent  # noqa: E402

TOY = get_suite("toy")
FACTS = {
    "content_scale": 0.01,
    "instructions": ["reach", "lift"],
    "cameras": ["front", "side"],
    "action_low": [-1.0] * 4,
    "action_high": [1.0] * 4,
    "actions": {"mean": [0.0] * 4, "std": [1.0] * 4},
    "proprio": {"mean": [0.0] * 4, "std": [1.0] * 4},
    "gripper_values": [-1.0, 1.0],
}


def tiny(**changes) -> SofConfig:
    return replace(load_settings(SofRecipe(), "tiny", "toy").config, **changes)


def network(**changes) -> SofNetwork:
    torch.manual_seed(0)
    made = SofNetwork(tiny(**changes), FACTS).eval()
    # Untrained, the decoder says that nothing moves.
    torch.nn.init.normal_(made.skills.decoder.motions.weight)
    return made


def sources(demos, folder, **changes) -> Sources:
    return Sources(
        demos if isinstance(demos, tuple) else (demos,), TOY, validation_fraction=0.0, cache=folder, **changes
    )


def trained(demos, folder, *changes, steps=2, only=None, init_from=None, seed=0, **given):
    settings = load_settings(SofRecipe(), "tiny", "toy", changes, steps=steps, batch_size=4)
    if only:
        settings = replace(settings, stages={only: settings.stages[only]})
    options = TrainOptions(folder / "out", seed=seed, init_from=init_from, progress=False)
    return train(SofRecipe(), settings, sources(demos, folder.parent / "frames", **given), options)


# --- tokens


def test_a_code_is_the_mixed_radix_number_of_its_levels_the_first_counting_fastest():
    from vector_quantize_pytorch import FSQ

    codes = FSQ(levels=[8, 5, 5, 5]).indices_to_codes(torch.tensor([0, 1, 8, 40, 200, 999]))
    assert codes.tolist() == [
        [-1.0, -1.0, -1.0, -1.0],
        [-0.75, -1.0, -1.0, -1.0],
        [-1.0, -0.5, -1.0, -1.0],
        [-1.0, -1.0, -0.5, -1.0],
        [-1.0, -1.0, -1.0, -0.5],
        [0.75, 1.0, 1.0, 1.0],
    ]


def test_the_codebook_of_the_published_1024_has_1000_codes_and_says_so():
    assert SofConfig().levels == (8, 5, 5, 5)
    assert network(levels=(8, 5, 5, 5)).skills.codebook_size == 1000


def test_a_token_sees_its_four_frames_and_those_before_and_none_after():
    encoder = network(horizon=16).skills.encoder
    content = torch.randn(1, 16, 2, 16, 16)
    with torch.no_grad():
        before = encoder(content)
        for frame in range(16):
            changed = content.clone()
            changed[:, frame] += 1
            same = (encoder(changed) == before).all(-1)[0]
            # Tokens before that of the frame's own four are the same bit for bit; that one is not.
            assert same.tolist()[: frame // 4] == [True] * (frame // 4)
            assert not same[frame // 4]


def test_what_tokens_decode_to_depends_on_the_first_frame():
    skills = network().skills
    tokens = torch.tensor([[3, 50]])
    dark, bright = (skills.decode(tokens, torch.full((1, 3, 32, 32), value), range(8)) for value in (0.0, 1.0))
    assert dark.shape == (1, 8, 2, 16, 16)
    assert not torch.allclose(dark, bright)


def test_single_steps_decode_as_they_do_among_all():
    skills, frame = network().skills, torch.rand(1, 3, 32, 32)
    tokens = torch.tensor([[3, 50]])
    assert torch.allclose(
        skills.decode(tokens, frame, range(8))[:, [1, 6]], skills.decode(tokens, frame, [1, 6]), atol=1e-6
    )


def test_wrong_tokens_are_off_by_one_level_at_most():
    made = network()
    tokens = torch.randint(0, 125, (40, 2), generator=torch.Generator().manual_seed(0))
    wrong = made.wrong_tokens(tokens, torch.Generator().manual_seed(1))
    fsq = made.skills.quantiser
    apart = (fsq.indices_to_codes(tokens) - fsq.indices_to_codes(wrong)).abs() * 2  # two to a level of five
    assert apart.max() <= 1.0 + 1e-6
    assert 0.3 < (wrong != tokens).float().mean() < 0.9


def test_tokens_chosen_one_by_one_with_a_cache_are_those_of_the_whole_sequence():
    made = network(horizon=32, policy_layers=2)
    context = torch.randn(3, 3, made.config.policy_width)
    tokens = made.policy.choose(context, temperature=0.0)
    with torch.no_grad():
        logits = made.policy(context, tokens)
    assert tokens.shape == (3, 8)
    assert torch.equal(logits.argmax(-1), tokens)


def test_a_token_does_not_depend_on_those_after_it():
    made = network(horizon=32)
    context, tokens = torch.randn(1, 3, made.config.policy_width), torch.arange(8)[None]
    with torch.no_grad():
        changed = tokens.clone()
        changed[:, 4] = 99
        same = (made.policy(context, tokens) == made.policy(context, changed)).all(-1)[0]
    assert same.tolist() == [True] * 5 + [False] * 3


def test_only_the_most_likely_tokens_are_drawn():
    logits = torch.tensor([[0.0, 3.0, 2.0, -1.0]]).expand(200, -1)
    drawn = draw(logits, 1.0, 2, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {1, 2}
    assert set(draw(logits, 0.0, 0, None).tolist()) == {1}


def test_retrained_flow_weights_under_the_same_name_are_not_taken_for_the_old_ones(toy_demos, tmp_path):
    from safetensors.torch import save_file

    from flowbench.agents.flow.network import RaftConfig, build_raft

    weights = tmp_path / "raft.safetensors"
    config = tiny(flow="raft-small", flow_checkpoint=str(weights), flow_floor_px=0.0)
    flows = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        save_file(build_raft(RaftConfig(size="small")).state_dict(), weights)
        where = sources(toy_demos, tmp_path / "frames")
        dataset = where.open((VIDEO,), split=None, labelled=False, cameras="each")
        blocks = SkillBlocks(dataset, config, cache=where.frame_cache, only=(0,))
        flows.append(np.array(blocks.content_parts[0], np.float32))
    assert not np.array_equal(flows[0], flows[1])
    assert np.array_equal(flows[0], flows[2])


# --- what is learned from


def blocks(demos, folder, **changes) -> SkillBlocks:
    config = tiny(**changes)
    return SkillBlocks(sources(demos, folder).open((VIDEO,), labelled=False, cameras="each"), config)


def test_exact_flow_is_that_of_the_states_in_two_and_in_three_dimensions(toy_demos, tmp_path):
    import flowbench
    from flowbench.data.replay import scenario_of
    from flowbench.flow.exact import exact_flow
    from flowbench.flow.snapshot import take_snapshot

    flat, deep = (blocks(toy_demos, tmp_path, **changes) for changes in ({"flow": "exact"}, {"content": "scene-flow"}))
    info, camera = flat.dataset.infos[0], flat.dataset.origins[0].camera
    env = flowbench.make("toy", info.task, cameras=(camera,), modalities=(), image_size=(32, 24))
    env.reset(options={"scenario": scenario_of(info)})
    before = take_snapshot(env.unwrapped, camera)
    env.step(flat.dataset.origins[0].reader.read(0, "actions", slice(0, 1))[0])
    truth = exact_flow(before, take_snapshot(env.unwrapped, camera))
    assert flat.content(0, 0).shape == (8, 2, 16, 16) and deep.content(0, 0).shape == (8, 3, 16, 16)
    moved = np.nanmean(truth.scene_flow_m, (0, 1))
    assert np.abs(moved).max() > 1e-5
    assert np.allclose(deep.content(0, 0)[0].astype(np.float32).mean((1, 2)), moved, atol=1e-5)
    share = np.nanmean(truth.flow_px, (0, 1)) / [32, 24]
    assert np.allclose(flat.content(0, 0)[0].astype(np.float32).mean((1, 2)), share, atol=1e-4)


def test_exact_flow_needs_states(tmp_path):
    pytest.importorskip("h5py")
    from flowbench.agents.sof.exact_content import ExactContent
    from flowbench.data.dataset import Origin

    class Reader:
        path = tmp_path / "videos"
        demos = (type("Info", (), {"name": "v0", "arrays": {}})(),)

    with pytest.raises(DataError, match="Exact flow is read from stored states, and v0 of .*videos has none."):
        ExactContent(tiny(flow="exact"), (32, 24))(Origin(Reader(), 0, {}, "front"), "front")


@pytest.mark.parametrize("content", ["flow", "pixels"])
def test_past_the_last_frame_nothing_moves(toy_demos, tmp_path, content):
    data = blocks(toy_demos, tmp_path, content=content)
    last = data.dataset.infos[0].steps - 1
    assert not data.content(0, last).any()
    near = data.content(0, last - 3)
    if content == "flow":
        assert not near[3:].any()
    else:
        # The last frame stays.
        assert all(np.array_equal(frame, near[2]) for frame in near[3:])
    assert data.content(0, 0).any()


def test_flow_is_a_share_of_the_image_whatever_the_resolution():
    def three_right(first, second):
        return np.broadcast_to(np.array([3.0, -1.5], np.float32), (*first.shape[:3], 2)).copy()

    for size in ((16, 16), (32, 32)):
        frames = np.zeros((4, 32, 32, 3), np.uint8)
        flow = block_flow(three_right, frames, tiny(flow_size=size))
        assert flow.shape == (3, 2, *size[::-1])
        assert np.allclose(flow[:, 0], 3 / 32) and np.allclose(flow[:, 1], -1.5 / 32)


def test_what_belongs_together_is_shifted_together():
    frames, content = torch.zeros(8, 3, 32, 32), torch.zeros(8, 2, 2, 16, 16)
    frames[:, :, 10:12, 20:22] = 1
    content[:, :, :, 5, 10] = 1
    seen, moved = shifted_alike(frames, content, 6, torch.Generator().manual_seed(0))
    small = torch.nn.functional.avg_pool2d(seen[:, 0], 2)
    assert torch.equal(small, moved[:, 0, 0])
    assert not torch.equal(moved, content)


def test_a_label_fraction_withholds_actions_and_no_videos(toy_demos, tmp_path):
    recipe, config = SofRecipe(), tiny()
    given = sources(toy_demos, tmp_path, label_fraction=0.5)
    facts = recipe.facts(config, given)
    skills, acted = (recipe.data(config, facts, given, "train", stage) for stage in ("skills", "flow2action"))
    assert "actions" not in skills.dataset.keys
    # Two demonstrations of each of two tasks, each seen from two sides.
    assert (len(skills.dataset.infos), len(acted.dataset.infos)) == (8, 4)


def test_actions_of_video_data_are_never_read(toy_demos, tmp_path):
    from flowbench.agents.training.sources import Sources

    videos = tmp_path / "videos.h5"
    videos.write_bytes(toy_demos.read_bytes())
    both = Sources((videos, toy_demos), TOY, validation_fraction=0.0, action_paths=(toy_demos,))
    assert {reader.path for reader in both.open(("actions",)).readers} == {toy_demos}
    assert {reader.path for reader in both.open((), labelled=False).readers} == {videos, toy_demos}
    none = Sources((videos,), TOY, validation_fraction=0.0, action_paths=())
    with pytest.raises(DataError, match="There are no actions to learn from"):
        none.open(("actions",))


def test_skills_and_policy_need_no_actions(toy_demos, tmp_path):
    checkpoint = trained(toy_demos, tmp_path / "a", only="skills", action_paths=())
    assert list(checkpoint.training["stages"]) == ["skills"]
    assert checkpoint.training["action_data_sha256"] != checkpoint.training["data_sha256"]


def test_the_policy_means_the_same_whatever_share_of_the_actions_may_be_seen(toy_demos, tmp_path):
    config = tiny(proprio=True, policy_proprio=True)
    all_of_it, half, none = (
        SofRecipe().facts(config, sources(toy_demos, tmp_path, **changes))
        for changes in ({}, {"label_fraction": 0.5}, {"action_paths": ()})
    )
    assert all_of_it["proprio"] == half["proprio"] == none["proprio"]
    assert all_of_it["actions"] != half["actions"]


def test_one_stage_stands_on_those_before_it_and_starts_afresh_itself(sof, toy_demos, tmp_path):
    again = trained(toy_demos, tmp_path / "p", only="flow2action", init_from=str(sof.folder), steps=1, seed=1)
    changed = {name.split(".")[0] for name, value in sof.weights.items() if not torch.equal(value, again.weights[name])}
    assert changed == {"flow2action"}
    # One step from other random weights is far from two steps.
    name = "flow2action.trunk.0.weight"
    assert (again.weights[name] - sof.weights[name]).abs().max() > 0.01


def test_one_stage_keeps_what_those_before_it_know_by_number_or_in_units(sof):
    other = {**sof.facts, "content_scale": 7.0, "instructions": sof.facts["instructions"][-1:], "actions": "its own"}
    last = SofRecipe().carried_facts(tiny(), other, sof.facts, ["flow2action"])
    assert last == {**sof.facts, "actions": "its own"}
    policy = SofRecipe().carried_facts(tiny(), other, sof.facts, ["policy"])
    assert policy == {**other, "content_scale": sof.facts["content_scale"]}
    assert SofRecipe().carried_facts(tiny(), other, sof.facts, ["skills", "policy"]) == other


def test_one_stage_trained_on_less_says_what_those_before_it_said(sof, toy_demos, tmp_path):
    settings = load_settings(SofRecipe(), "tiny", "toy", steps=1, batch_size=4)
    settings = replace(settings, stages={"flow2action": settings.stages["flow2action"]})
    options = TrainOptions(tmp_path / "out", init_from=str(sof.folder), progress=False)
    fewer = replace(sources(toy_demos, tmp_path / "frames"), tasks=("lift",))
    again = train(SofRecipe(), settings, fewer, options)
    own = SofRecipe().facts(tiny(), fewer)
    for name in ("instructions", "content_scale"):
        assert again.facts[name] == sof.facts[name] != own[name]


def test_a_sentence_that_the_policy_does_not_know_is_refused(sof):
    other = {**sof.facts, "instructions": [*sof.facts["instructions"], "juggle"]}
    with pytest.raises(
        DataError, match="have the sentence 'juggle', which the policy of --init-from was not trained on"
    ):
        SofRecipe().carried_facts(tiny(), other, sof.facts, ["flow2action"])


@pytest.mark.parametrize(("suite", "inherits"), [("toy", True), ("metaworld11", False)])
def test_one_stage_has_the_settings_of_those_before_it_unless_they_are_of_another_suite(sof, suite, inherits):
    from click.testing import CliRunner

    from flowbench.agents.training.command import train as command

    given = f"--agent sof --suite {suite} --stage flow2action --init-from {sof.folder} --set temperature=0.5 --show"
    shown = CliRunner().invoke(command, given.split(), catch_exceptions=False).output
    assert "temperature = 0.5" in shown and "stage policy" not in shown
    assert (f"image_size = {list(sof.config['image_size'])}" in shown) == inherits


def test_flow2action_starts_with_the_eyes_of_the_policy(sof):
    recipe, config = SofRecipe(), tiny()
    torch.manual_seed(3)
    model = recipe.build(config, sof.facts)
    recipe.prepare(model, config, sof.facts, "flow2action")
    eyes = model.policy.eyes.encoders[0].state_dict()
    assert all(torch.equal(value, model.flow2action.encoder.state_dict()[name]) for name, value in eyes.items())


def test_features_move_by_the_offset_that_is_predicted():
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 8, 4] = 1.0
    still = moved(maps, torch.zeros(1, 2, 4, 4))
    torch.testing.assert_close(still, maps)
    # Read a quarter of the image (half of a half image) to the left: what is there is seen that much to the right.
    to_the_right = moved(maps, torch.tensor([-0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4))
    assert to_the_right[0, 0, 8, 8] == pytest.approx(1.0) and to_the_right.sum() == pytest.approx(1.0)


def untrained(toy_demos, tmp_path, stage, **changes):
    """Return a network for toy demonstrations, and a batch of a stage."""
    recipe, config = SofRecipe(), tiny(**changes)
    given = sources(toy_demos, tmp_path)
    facts = recipe.facts(config, given)
    batch = recipe.data(config, facts, given, "train", stage).batch(np.arange(4))
    return recipe.build(config, facts), batch


def test_absolute_errors_count_more_and_more_so_that_skills_do_not_begin_with_no_motion(toy_demos, tmp_path):
    model, batch = untrained(toy_demos, tmp_path, "skills", l1_steps=100)
    model.eval()

    def loss(step):
        moment = Moment("skills", step, True, torch.Generator().manual_seed(0))
        return model.loss(batch, moment)[0].item()

    first, middle, last = loss(1), loss(55), loss(100)
    # The weight of absolute errors is 0.1, 0.55 and 1.
    assert first < middle < last == loss(200)
    assert middle - first == pytest.approx(last - middle, rel=1e-3)


def test_the_robots_state_is_disturbed_in_training_alone(toy_demos, tmp_path):
    rest = {"dropout": 0.0, "shift_px": 0, "brightness": 0.0, "token_noise": 0.0, "plan_dropout": 0.0}
    model, batch = untrained(toy_demos, tmp_path, "flow2action", proprio=True, proprio_noise=5.0, **rest)
    model.eval()

    def changes(training):
        losses = [
            model.loss(batch, Moment("flow2action", 1, training, torch.Generator().manual_seed(seed)))[0].item()
            for seed in (0, 1)
        ]
        return abs(losses[0] - losses[1])

    assert changes(training=False) == 0
    disturbed = changes(training=True)
    model.config = replace(model.config, proprio_noise=0.0)
    # What is left is the shift of pictures within a cell of the plan.
    assert disturbed > 5 * changes(training=True)


def test_a_stage_learns_its_own_network_alone_and_dropout_of_frozen_skills_is_off(toy_demos, tmp_path):
    model, batch = untrained(toy_demos, tmp_path, "policy", dropout=0.5)
    model.train()
    model.loss(batch, Moment("policy", 1, True, torch.Generator().manual_seed(0)))
    assert not model.skills.training and model.policy.training
    assert {id(p) for p in SofRecipe().parameters(model, "policy")} == {id(p) for p in model.policy.parameters()}
    # Tokens are worked out once, each from its own block.
    kept = model._tokens(batch, "policy", True)
    assert torch.equal(kept, model.skills.tokens(batch[CONTENT].float()))


def test_the_skills_learn_where_something_moves_and_where_to():
    skills = network().skills.train()
    torch.nn.init.zeros_(skills.decoder.motions.weight)
    # A bright square moves right or left, and nothing else does.
    frames, content = torch.zeros(8, 3, 32, 32), torch.zeros(8, 8, 2, 16, 16)
    for row in range(8):
        frames[row, :, 4:12, 2 * row + 4 : 2 * row + 12] = 1
        content[row, :, 0, 2:6, row + 2 : row + 6] = 0.01 if row % 2 else -0.01
    optimiser = torch.optim.Adam(skills.parameters(), 3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        made = skills.reconstruct(content, frames, range(8))
        ((made - content) / skills.scale).square().mean().backward()
        optimiser.step()
    error, still = end_point_errors(made.detach(), content)
    assert error.sum() < 0.5 * still.sum()


# --- what is done with it


def test_it_keeps_the_agent_contract_however_it_acts(sof):
    check_agent(lambda: SofAgent(sof), task="lift", camera="front", steps=3)
    check_agent(lambda: SofAgent(sof, act="geometry", replan=2), task="lift", camera="side", steps=3)
    check_agent(lambda: SofAgent(sof, flow_noise=1.0, occlusion=0.5, temperature=0), task="reach", steps=2)


def test_variants_keep_it_too(toy_demos, tmp_path):
    skill = trained(toy_demos, tmp_path / "skill", "act_from=skill", "proprio=true", "policy_proprio=true")
    check_agent(lambda: SofAgent(skill), task="lift", steps=2)
    pixels = trained(toy_demos, tmp_path / "pixels", "content=pixels")
    check_agent(lambda: SofAgent(pixels), task="lift", steps=2)
    with pytest.raises(
        BadValue, match="act=geometry reads flow, and this checkpoint imagines pixels. Use act=learned."
    ):
        SofAgent(pixels, act="geometry")


def test_another_camera_is_seen_by_flow2action_alone(toy_demos, tmp_path):
    both = trained(toy_demos, tmp_path / "both", "camera=front", 'extra_cameras=["side"]', steps=1)
    assert not any(name.startswith("policy.eyes.encoders.1") for name in both.weights)
    assert any(name.startswith("flow2action.extra.0") for name in both.weights)
    check_agent(lambda: SofAgent(both), task="lift", camera="front", steps=2)


def test_without_learning_the_hand_goes_where_its_exact_flow_says():
    import flowbench
    from flowbench.agents.sof.geometric import GeometricFlow2Action
    from flowbench.flow.exact import exact_flow
    from flowbench.flow.snapshot import take_snapshot

    modalities = ("rgb", "depth", "segmentation", "calibration")
    env = flowbench.make(
        "toy", "reach", cameras=("front",), modalities=modalities, image_size=(128, 128), lazy=True
    ).unwrapped
    observation, _ = env.reset(seed=0)
    before, start = take_snapshot(env, "front"), env.get_state()
    hand_world, flows = observation.proprio[:3].astype(np.float64), []
    for _ in range(8):
        moved, *_ = env.step(np.array([0.3, -0.4, -0.2, -1.0]))
        after = take_snapshot(env, "front")
        flows.append(np.nan_to_num(exact_flow(before, after).flow_px) / 128)
        before, there_world = after, moved.proprio[:3].astype(np.float64)
    content = np.moveaxis(np.stack(flows), -1, 1).astype(np.float32)
    acting = GeometricFlow2Action(env.task, tiny(), seed=0)
    acting.take(env.set_state(start), content)
    assert acting.found
    way = there_world - hand_world
    assert np.linalg.norm(way) > 0.05
    assert np.linalg.norm(acting._path_world[-1] - hand_world - way) < 0.15 * np.linalg.norm(way)
    action = acting.command(hand_world)
    assert np.array_equal(np.sign(action[:3]), [1, -1, -1])


def test_the_replanning_period_is_the_length_of_a_chunk(sof):
    with pytest.raises(
        BadValue, match="replan is 9; with act=learned this checkpoint knows 4 steps, so it is from 1 to that."
    ):
        SofAgent(sof, replan=9)
    with pytest.raises(UnknownName, match="Agent sof has no act 'geometri'. Did you mean 'geometry'"):
        SofAgent(sof, act="geometri")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"horizon": 6}, "horizon is 6; it is a multiple of 4, the frames of a token."),
        ({"plan_frames": (0, 8)}, r"plan_frames is \[0, 8\]; each is from 0 to 7."),
        ({"image_size": (40, 32)}, r"image_size \[40, 32\] is not a multiple of flow_size \[16, 16\]"),
        ({"history": 2}, "Agent sof looks at one frame at a time; set history=1."),
        ({"extra_cameras": ("side",)}, "With extra cameras the one that skills are seen through must be named"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, text):
    with pytest.raises(BadValue, match=text):
        tiny(**changes)


def test_a_gripper_of_two_values_is_classified_and_another_is_a_number():
    two = network().flow2action
    motion, gripper = torch.zeros(1, 4, 3), torch.tensor([[-3.0, 3.0, -0.1, 0.1]])
    assert two.actions(motion, gripper)[0, :, 3].tolist() == [-1.0, 1.0, -1.0, 1.0]
    number = SofNetwork(tiny(), FACTS | {"gripper_values": []}).flow2action
    assert torch.allclose(number.actions(motion, gripper)[0, :, 3], torch.tensor([-1.0, 1.0, -0.1, 0.1]))


def test_frames_of_training_and_of_episodes_are_the_same(toy_demos, tmp_path):
    data = blocks(toy_demos, tmp_path)
    frame = to_float(data.batch(np.array([0]))[VIDEO])[0, 0]
    assert frame.shape == (3, 32, 32) and 0 <= float(frame.min()) <= float(frame.max()) <= 1


# --- as a user types it


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--stage", "policy"),
            "Stage policy of sof stands on skills. Name a checkpoint that has been through it: --init-from",
        ),
        (("--stage", "plans"), "Agent sof has no stage 'plans'."),
        (("--data", "a.h5", "--video-data", "b.h5"), "--data is both --video-data and --action-data."),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(arguments, text, tmp_path):
    from click.testing import CliRunner

    from flowbench.agents.training.command import train as command

    given = ["--agent", "sof", "--suite", "toy", "--preset", "tiny", "--out", str(tmp_path), *arguments]
    with pytest.raises((BadValue, UnknownName), match=text):
        CliRunner().invoke(command, given, catch_exceptions=False)
