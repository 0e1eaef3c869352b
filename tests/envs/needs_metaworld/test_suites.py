"""The static suite data agrees with the installed Meta-World."""

import subprocess
import sys

import pytest

pytest.importorskip("metaworld", reason="needs flowbench[metaworld]")

from metaworld import env_dict
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from flowbench.envs.metaworld import suites
from flowbench.errors import UnknownName
from flowbench.registry import get_suite


def without_version(names):
    return tuple(name.removesuffix("-v3") for name in names)


def test_mt50_lists_metaworlds_tasks_in_its_order():
    assert without_version(env_dict.MT50_V3) == suites.MT50_TASKS
    assert [task.name for task in suites.METAWORLD_MT50.tasks] == list(suites.MT50_TASKS)


def test_mt10_lists_metaworlds_tasks_in_its_order():
    assert without_version(env_dict.MT10_V3) == suites.MT10_TASKS
    assert [task.name for task in suites.METAWORLD_MT10.tasks] == list(suites.MT10_TASKS)


def test_every_task_has_a_scripted_policy_upstream():
    assert set(without_version(ENV_POLICY_MAP)) == set(suites.MT50_TASKS)


def test_metaworld11_is_avdcs_eleven_in_the_order_of_its_table():
    names = [task.name for task in get_suite("metaworld11").tasks]
    assert len(names) == 11
    assert names[0] == "door-open" and names[-1] == "assembly"
    assert set(names) <= set(suites.MT50_TASKS)
    assert all(task.targets for task in get_suite("metaworld11").tasks)


def test_the_instruction_is_the_tasks_name_in_words():
    assert get_suite("metaworld11").task("button-press-topdown").instruction == "button press topdown"


def test_the_horizon_is_upstreams_longest_path():
    assert {rules.horizon for rules in get_suite("metaworld11").protocols.values()} == {SawyerXYZEnv.max_path_length}


def test_protocols_say_what_sets_them_apart():
    stock, avdc = (get_suite("metaworld11").rules(name) for name in (None, "avdc"))
    assert (stock.name, stock.success_rule, stock.image_view, stock.episodes) == (
        "stock_v3",
        "first_success",
        "geometric",
        25,
    )
    assert (avdc.initial_states, avdc.success_rule, avdc.image_view, avdc.episodes) == (
        "avdc_fork",
        "avdc_strict",
        "policy",
        25,
    )


@pytest.mark.parametrize("suite_name", ["metaworld-mt10", "metaworld-mt50"])
def test_avdcs_protocol_is_offered_for_its_own_tasks_only(suite_name):
    with pytest.raises(UnknownName, match=f"Suite {suite_name} has no protocol 'avdc'"):
        get_suite(suite_name).rules("avdc")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UnknownName, match="Suite metaworld11 has no task 'door-opne'. Did you mean 'door-open'"):
        get_suite("metaworld11").task("door-opne")


def test_listing_the_suites_imports_no_simulator():
    code = (
        "import sys, flowbench.envs.metaworld.suites as suites; assert len(suites.METAWORLD_MT50.tasks) == 50; "
        "print(sorted({'mujoco', 'metaworld', 'torch', 'OpenGL'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout.strip() == "[]"
