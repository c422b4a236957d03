import os
import signal
import subprocess
import sys

from gateway.node.processes import is_alive, my_start, start_of


def test_this_process_lives_since_it_started() -> None:
    assert my_start() > 0
    assert is_alive(os.getpid(), my_start())


def test_a_pid_that_another_process_has_now_is_not_the_one_that_died() -> None:
    assert not is_alive(os.getpid(), my_start() - 1)


def test_a_stopped_process_lives_and_a_killed_one_is_dead_before_anybody_asked_for_its_end() -> None:
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_of(program.pid)
    assert started is not None
    program.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, program.pid, os.WSTOPPED)
    assert is_alive(program.pid, started)
    program.kill()
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # a zombie yet
    assert not is_alive(program.pid, started)
    program.communicate()
    assert not is_alive(program.pid, started)
