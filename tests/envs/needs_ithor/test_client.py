"""AI2-THOR's client on players that end, hang and never come: everything ends in time, with a sentence, and without orphans."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("ai2thor", reason="iTHOR: pip install 'flowbench[ithor]'")

from flowbench.envs.ithor import client as client_module
from flowbench.envs.ithor.client import ThorClient
from flowbench.envs.ithor.players import PlayerCommand, TimeLimits, commit_id, find_player, find_standin, find_unity
from flowbench.errors import BadValue, MissingExtra, SimulatorLost

SETTINGS = {"gridSize": 0.25, "snapToGrid": True, "rotateStepDegrees": 90, "renderDepthImage": True}
#: Long for a process to start on a busy machine, short for a test.
LIMITS = TimeLimits(start_s=60.0, answer_s=2.0)

#: A player that greets, answers so many actions, and then does what `THEN` says.
PLAYER = """
import json, os, struct, sys, time
import msgpack
HEAD = struct.Struct("!BI")
def send(message):
    body = msgpack.packb(message)
    out.write(HEAD.pack(1, len(body)) + body + HEAD.pack(255, 0)); out.flush()
def receive():
    action = None
    while True:
        kind, length = HEAD.unpack(inbox.read(HEAD.size))
        if kind == 255:
            return action
        action = json.loads(inbox.read(length))
def answer(action, returned=None):
    agent = {"screenWidth": 64, "screenHeight": 64, "thirdPartyCameras": [], "lastAction": "", "lastActionSuccess": True,
             "errorCode": "", "errorMessage": "", "actionReturn": returned, "sceneName": "FloorPlan1_physics", "agentId": 0}
    send({"agents": [agent], "thirdPartyCameras": [], "activeAgentId": 0, "sequenceId": action.get("sequenceId", 0)})
print("the fake player is here", file=sys.stderr, flush=True)
BEFORE
out = open(os.environ["AI2THOR_FIFO_SERVER_PIPE_PATH"], "wb")
answer({})
inbox = open(os.environ["AI2THOR_FIFO_CLIENT_PIPE_PATH"], "rb")
returns = {"GetScenesInBuild": ["FloorPlan1_physics"], "Initialize": {"cameraNearPlane": 0.1, "cameraFarPlane": 20.0}}
while True:
    action = receive()
    if action["action"] == "MoveAhead":
        THEN
    answer(action, returns.get(action["action"]))
"""


@pytest.fixture
def fake(tmp_path):
    """Give a function that writes a player of our own and returns how to start it."""

    def write(then="pass", before="pass", limits=LIMITS, leashed=False):
        script = tmp_path / "player.py"
        script.write_text(PLAYER.replace("THEN", then).replace("BEFORE", before))
        command = f"{sys.executable} {script}"
        return PlayerCommand("unity", "a fake", {"local_executable_path": command}, limits, leashed)

    return write


def start(command, **settings):
    return ThorClient(command, 64, 64, "FloorPlan1", **(settings or SETTINGS))


# --- players that fail


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("sys.exit(3)", "ended with exit code 3, while starting. The last it said: the fake player is here"),
        ("os.abort()", "was killed by SIGABRT, while starting."),
        ("raise OSError('no GPU')", "ended with exit code 1, while starting. The last it said: OSError: no GPU"),
    ],
)
def test_a_player_that_ends_before_it_connects_is_an_error_at_once(fake, before, sentence):
    begun = time.monotonic()
    with pytest.raises(SimulatorLost) as caught:
        start(fake(before=before))
    assert sentence in str(caught.value) and str(caught.value).startswith("The unity player (process ")
    assert time.monotonic() - begun < LIMITS.start_s / 2


def test_a_player_that_never_connects_is_stopped_after_its_time(fake, ends, monkeypatch):
    guards = remember_guards(monkeypatch)
    with pytest.raises(SimulatorLost, match=r"did not answer within 1.5 s and was stopped, while starting"):
        start(fake(before="time.sleep(1000)", limits=TimeLimits(1.5, 1.0)))
    assert ends(guards[0].process.pid)


def remember_guards(monkeypatch):
    guards = []
    init = client_module._Guard.__init__

    def remembering(self, command):
        init(self, command)
        guards.append(self)

    monkeypatch.setattr(client_module._Guard, "__init__", remembering)
    return guards


def test_a_player_that_speaks_and_never_listens_is_stopped_after_its_time(fake, ends, monkeypatch):
    guards = remember_guards(monkeypatch)
    command = fake(before="pass", limits=TimeLimits(60.0, 1.0))
    script = Path(command.arguments["local_executable_path"].split()[1])
    script.write_text(script.read_text().replace("inbox = open(", "time.sleep(1000); inbox = open("))
    with pytest.raises(SimulatorLost, match="did not answer within"):
        start(command)
    assert ends(guards[0].process.pid)


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        ("os._exit(7)", "ended with exit code 7, while carrying out MoveAhead."),
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV, while carrying out MoveAhead."),
        ("os.kill(os.getpid(), 6)", "was killed by SIGABRT, while carrying out MoveAhead."),
        ("time.sleep(1000)", "did not answer within 2 s and was stopped, while carrying out MoveAhead."),
        ("os.kill(os.getpid(), 19)", "did not answer within 2 s and was stopped, while carrying out MoveAhead."),
        ("out.write(b'half a header'[:3]); out.flush(); time.sleep(1000)", "did not answer within 2 s and was stopped"),
    ],
)
def test_a_player_that_fails_during_an_action_is_one_sentence_in_time_and_is_not_restarted(fake, ends, then, sentence):
    client = start(fake(then))
    pid, begun, cpu = client.pid, time.monotonic(), time.process_time()
    with pytest.raises(SimulatorLost) as caught:
        client.do("MoveAhead")
    assert sentence in str(caught.value)
    assert time.monotonic() - begun < 10 * LIMITS.answer_s
    # Left alone, the client polls a closed pipe as fast as it can.
    assert time.process_time() - cpu < 1.0
    assert ends(pid) and client.lost
    with pytest.raises(SimulatorLost) as again:
        client.do("Pass")
    assert str(again.value) == str(caught.value)
    client.close()
    client.close()


def test_a_player_killed_between_two_actions_is_the_same_sentence(fake, ends):
    client = start(fake())
    os.kill(client.pid, signal.SIGKILL)
    assert ends(client.pid)
    with pytest.raises(SimulatorLost, match=r"was killed by SIGKILL, while carrying out Pass"):
        client.do("Pass")
    client.close()


def test_a_failed_action_is_not_a_lost_player(opengl):
    client = start(find_standin())
    for _ in range(40):
        blocked = client.do("MoveAhead").metadata
    assert not blocked["lastActionSuccess"] and "something is blocking Agent 0" in blocked["errorMessage"]
    with pytest.raises(ValueError, match="Invalid action: Fly"):
        client.do("Fly")
    assert not client.lost and client.do("Pass").metadata["lastActionSuccess"]
    client.close()


# --- the environment


def test_no_display_and_visible_gpus_do_not_matter(fake, home, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    client = start(fake())
    assert client.do("Pass").metadata["lastActionSuccess"]
    client.close()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_an_environment_that_would_change_the_success_rule_is_refused(fake, monkeypatch):
    monkeypatch.setenv("AI2THOR_VISIBILITY_DISTANCE", "3")
    with pytest.raises(BadValue, match="AI2THOR_VISIBILITY_DISTANCE is set.*unset AI2THOR_VISIBILITY_DISTANCE"):
        start(fake())


def test_the_client_can_be_imported_where_warnings_are_errors(tmp_path):
    # A fresh cache: the warning only comes when the client is compiled.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = "import warnings; warnings.simplefilter('error', SyntaxWarning); warnings.simplefilter('error', DeprecationWarning)\n"
    code += "import flowbench.envs.ithor.client"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "SyntaxError" not in done.stderr and "ithor/client" not in done.stderr, done.stderr


def test_more_open_files_than_select_can_count_do_not_matter(fake, open_files):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        open_files(1050)
        client = start(fake())
        assert client.do("Pass").metadata["lastActionSuccess"]
        client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- what is left behind


def in_a_process(code, home):
    """Run code that prints the player's pid and then waits; return the process and the pid."""
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)], env=environment, stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("leashed", [False, True])
def test_a_killed_client_leaves_no_player_behind(fake, home, ends, leashed):
    # Without a leash this player would wait in a pipe for ever, as Unity's does.
    waits = "signal.signal(signal.SIGPIPE, signal.SIG_IGN); import threading; threading.Event().wait()"
    command = fake(f"import signal; {waits}", leashed=leashed) if leashed else find_standin()
    code = f"""
        import threading, time
        from flowbench.envs.ithor.client import ThorClient
        from flowbench.envs.ithor.players import PlayerCommand, TimeLimits
        command = PlayerCommand("unity", "", {dict(command.arguments)!r}, TimeLimits(60.0, 60.0), {leashed})
        client = ThorClient(command, 64, 64, "FloorPlan1", **{SETTINGS!r})
        if {leashed}:
            threading.Thread(target=lambda: client.do("MoveAhead"), daemon=True).start()
        print(client.pid)
        time.sleep(1000)
    """
    process, pid = in_a_process(code, home)
    children = [pid, *children_of(pid)]
    assert len(children) == 1 + leashed
    process.kill()
    process.wait()
    assert all(ends(child) for child in children)


def children_of(pid):
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_stand_in_whose_client_dies_before_it_connects_ends(home, ends):
    code = """
        import os, subprocess, sys, tempfile, time
        folder = tempfile.mkdtemp()
        pipes = {f"AI2THOR_FIFO_{name}_PIPE_PATH": os.path.join(folder, name) for name in ("SERVER", "CLIENT")}
        for path in pipes.values():
            os.mkfifo(path)
        command = [sys.executable, "-m", "flowbench.envs.ithor.standin", "-screen-width", "64", "-screen-height", "64"]
        print(subprocess.Popen(command, env={**os.environ, **pipes}).pid)
        time.sleep(1000)
    """
    process, pid = in_a_process(code, home)
    process.kill()
    process.wait()
    assert ends(pid, seconds=30)


def test_closing_stops_the_player_and_its_leash_and_removes_its_files(fake, ends, monkeypatch):
    guards = remember_guards(monkeypatch)
    client = start(fake(leashed=True))
    leash = client.pid
    player = children_of(leash)[0]
    pipes = client._controller.server.tmp_dir.name
    client.close()
    assert ends(leash) and ends(player)
    assert not Path(pipes).exists() and not Path(guards[0].folder.name).exists()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM])
def test_a_leash_ends_as_its_player_does(tmp_path, number):
    from flowbench.envs.ithor import leash

    code = f"import os; os.kill(os.getpid(), {int(number)})"
    command = [sys.executable, leash.__file__, str(os.getpid()), sys.executable, "-c", code]
    assert subprocess.run(command).returncode == -number
    command[-1] = "import sys; sys.exit(5)"
    assert subprocess.run(command).returncode == 5


# --- the user's own players


def release(home, platform, body):
    """Put an executable where the client keeps its downloads."""
    name = f"thor-{platform}-{commit_id()}"
    folder = home / ".ai2thor" / "releases" / name
    folder.mkdir(parents=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    (folder / "metadata.json").write_text(json.dumps({"server_types": ["FIFO", "WSGI"]}))
    return folder


def test_the_clients_own_download_is_started_from_its_folder_and_others_are_left_alone(home, ends, opengl, monkeypatch):
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libvulkan.so.1" if name == "vulkan" else None)
    body = f'exec {sys.executable} -m flowbench.envs.ithor.standin "$@"'
    release(home, "CloudRendering", body)
    older = [home / ".ai2thor" / "releases" / f"thor-Linux64-{number}" for number in range(5)]
    for folder in older:
        folder.mkdir()
    command = find_unity()
    assert command.description == f"thor-CloudRendering-{commit_id()}" and command.leashed
    client = ThorClient(command, 64, 64, "FloorPlan1", **SETTINGS)
    event = client.do("Pass")
    assert event.frame.shape == (64, 64, 3) and event.metadata["lastActionSuccess"]
    pid = client.pid
    client.close()
    assert ends(pid)
    # Left alone, the client keeps the three newest.
    assert all(folder.is_dir() for folder in older)


def test_a_player_that_is_named_is_used_before_any_download(home, monkeypatch, tmp_path):
    player = tmp_path / "my player"
    player.write_text("#!/bin/sh\n")
    player.chmod(0o755)
    monkeypatch.setenv("FLOWBENCH_THOR_PLAYER", f"'{player}' -batchmode")
    assert find_unity().arguments == {"local_executable_path": f"'{player}' -batchmode"}
    monkeypatch.setenv("FLOWBENCH_THOR_PLAYER", str(tmp_path / "none"))
    with pytest.raises(MissingExtra, match=r"FLOWBENCH_THOR_PLAYER is .*none', and .*none is no executable file"):
        find_unity()


def test_without_a_player_everything_that_was_tried_is_named(home, monkeypatch):
    with pytest.raises(MissingExtra) as caught:
        find_unity()
    text = str(caught.value)
    assert text.startswith("No AI2-THOR player can be used here: CloudRendering: there is no ")
    assert f"thor-Linux64-{commit_id()}" in text and text.endswith("Fetch it with: flowbench setup ithor")
    release(home, "Linux64", "true")
    with pytest.raises(MissingExtra, match=r"Linux64: no X server \(apt-get install -y xvfb, then xvfb-run"):
        find_unity()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    folder = release(home, "CloudRendering", "true")
    with pytest.raises(MissingExtra, match=r"CloudRendering: no Vulkan loader \(apt-get install -y libvulkan1"):
        find_unity()
    (folder / "metadata.json").unlink()
    with pytest.raises(MissingExtra, match=r"has no metadata.json, so it is incomplete \(delete it\)"):
        find_unity()


def test_what_is_there_is_taken_only_where_that_was_asked_for_and_is_said(home, capsys):
    assert find_player("auto").backend == "standin"
    assert "No AI2-THOR player here: using the stand-in, whose rooms are not iTHOR's." in capsys.readouterr().err
