"""The process that task processes are forked from: `python -m minireduce.attempt.zygote FD`.

It is started by its own exec, imports once what every task needs, and then only forks and reaps: a task process costs a
fork, not the imports. Since it is the parent that no user code ever ran in, it also keeps order among them. It never
imports gRPC, never runs user code, keeps a single thread, and runs no computation of pyarrow (whose threads would not
survive a fork).

It is a subreaper: a process whose parent ended becomes its child, and so are task processes. So when a task process
ends, its process group is killed before it is reaped (its number cannot be reused until then), and strays that left the
group, which had stayed below the task process as long as it lived, come here and are killed as well. When the worker's
socket closes, however the worker went, everything below is killed and the zygote ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback

from minireduce.attempt import linux
from minireduce.attempt.conversation import Exited, Fork, Forked, ForkRefused, FromZygote, Kill, ToZygote
from minireduce.attempt.framing import PACKET_BYTES_MAX, decode, encode
from minireduce.core.spec import Program

DESCRIPTORS = 4
"""That come with the order to fork: the task's socket, its progress page, and the pipes that it prints to."""

IMPORTED = ("cloudpickle", "msgpack", "numpy", "pyarrow", "xxhash", "minireduce.attempt.task")
"""Of our own, the task process brings all of the engine that it uses."""


IMPORTED_LATER = ("pyarrow.compute",)
LATER_AFTER_S = 0.1
"""What user functions over columns mostly import, with the kernels that every job over columns calls: 25 ms that no
start waits for. It is imported once a task process has ended and nothing has been wanted for so long, for the jobs that
follow.
"""


class Zygote:
    """Forks, kills and reaps task processes as the worker at the other end of `control` says. `rehearsed` is what each
    of them does while it waits for its job.
    """

    def __init__(self, control: socket.socket, rehearsed: Program) -> None:
        self._control = control
        self._rehearsed = rehearsed
        self._own_pid = os.getpid()
        self._tasks: set[int] = set()
        self._has_reaped = self._has_all = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)

    def serve(self) -> None:
        """Work until the worker closes its end; then leave nothing behind."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal without a function would not wake us
        signal.set_wakeup_fd(self._wake_in.fileno(), warn_on_full_buffer=False)
        while True:
            readable, _, _ = select.select([self._control, self._wake_out], [], [], self._idle_s())
            if not readable:
                self._bring_later()
            if self._wake_out in readable:
                self._wake_out.recv(4096)
                self._reap()
            if self._control in readable and not self._obey():
                break
        self._end_everything()

    def _idle_s(self) -> float | None:
        """How long nothing must happen until there is time for what only some tasks need."""
        return None if self._has_all or not self._has_reaped else LATER_AFTER_S

    def _bring_later(self) -> None:
        self._has_all = True
        for name in IMPORTED_LATER:
            importlib.import_module(name)
        gc.freeze()

    def _obey(self) -> bool:
        """Do what the worker says; False when it is gone."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(
                self._control, PACKET_BYTES_MAX, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return False
        if not packet:
            return False
        match decode(ToZygote, packet):
            case Fork(token, user):
                self._fork(token, user, descriptors)
            case Kill(pid):
                if pid in self._tasks:  # not reaped yet, so the number is still its own
                    linux.kill_group(pid)
                    linux.kill(pid)  # it may not have come so far as to lead its group
        return True

    def _fork(self, token: int, user: str, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory, for now
            self._tell(ForkRefused(token, str(error)))
        else:
            if pid == 0:
                self._become_task(user, descriptors)
            self._tasks.add(pid)
            self._tell(Forked(token, pid))
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_task(self, user: str, descriptors: list[int]) -> None:
        """The child's side of a fork, which never returns."""
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._control, self._wake_in, self._wake_out):
                end.close()
            if user:
                linux.run_as(user)
            linux.end_with_parent(self._own_pid)
            linux.become_subreaper()
            linux.name_process("minireduce-task")

            from minireduce.attempt import task
            from minireduce.attempt.rehearsal import rehearse_task

            rehearse_task(self._rehearsed)
            connection, page, stdout, stderr = descriptors
            printing = task.Printing(stdout, stderr)
            task.run_task_process(socket.socket(fileno=connection), page, printing)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Take in every child that ended, and kill what it leaves behind."""
        has_reaped = False
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                break
            pid = ended.si_pid
            if pid in self._tasks:
                linux.kill_group(pid)
            _, status = os.waitpid(pid, 0)
            has_reaped = True
            if pid in self._tasks:
                self._tasks.discard(pid)
                self._has_reaped = True
                self._tell(Exited(pid, os.waitstatus_to_exitcode(status)))
        if has_reaped:
            for stray in linux.own_children():
                if stray not in self._tasks:
                    linux.kill(stray)

    def _tell(self, message: FromZygote) -> None:
        with contextlib.suppress(ConnectionError):  # a worker that is gone shows at the next read
            self._control.send(encode(message))

    def _end_everything(self) -> None:
        """Kill all that was ever forked below: each death hands us its children, until there are none."""
        for pid in sorted(self._tasks):
            linux.kill_group(pid)
        while True:
            for pid in linux.own_children():
                linux.kill(pid)
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if pid in self._tasks:
                self._tasks.discard(pid)
                self._tell(Exited(pid, os.waitstatus_to_exitcode(status)))


def prepare_what_tasks_need() -> Program:
    """Do now what each task process would otherwise do for itself; the program that it is to rehearse with."""
    for name in IMPORTED:
        importlib.import_module(name)

    from minireduce.attempt.rehearsal import make_program, rehearse

    rehearse()
    return make_program()


def main(arguments: list[str]) -> None:
    gc.disable()
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which closes the socket
    linux.become_subreaper()
    linux.name_process("minireduce-zygo")
    rehearsed = prepare_what_tasks_need()
    gc.freeze()  # the collector then leaves these objects, and the pages that children share with us, alone
    gc.enable()
    Zygote(control, rehearsed).serve()
    os._exit(0)  # there is nothing to flush, and the worker waits


if __name__ == "__main__":
    main(sys.argv[1:])
