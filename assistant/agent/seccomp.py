"""System calls that a tool has no use for are refused: a filter for seccomp, in the kernel's own small machine code.

Imports nothing but Python. Numbers are those of Linux's tables for the two machines that are known here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

# name: (x86_64, aarch64); None where a machine does not have it.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    # out of the session and the process group that end with the call
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # parts of the kernel with a large surface
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # memory that no limit of a process counts, some of which stays
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # nobody is served from here
    "bind": (49, 200),
    "listen": (50, 201),
}
_METADATA: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
"""Landlock does not watch who changes modes, owners, times and attributes of files: these cannot be told by path."""
_MODES = {"chmod": ((90, None), 1), "fchmod": ((91, 52), 1), "fchmodat": ((268, 53), 2), "fchmodat2": ((452, 452), 2)}
_SIGNALS = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
_PIDFD_SEND_SIGNAL = (424, 424)
_OWN_ONLY = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122)}
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_SOCKET, _SOCKETPAIR, _CONNECT = (41, 198), (53, 199), (42, 203)

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Which column of the tables, and what the kernel calls the machine."""
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_SET_ID = 0o6000
_INET, _STREAMS, _STREAM_OR_DATAGRAM = (2, 10), (1,), (1, 2)

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DATA_NR, _DATA_ARCH, _DATA_ARGS = 0, 4, 16

Code = list[tuple[int, int, int, int]]


class Rules(NamedTuple):
    """What depends on the back-end and the tool.

    `network`: connections over IP may be opened. `metadata`: modes and owners of files may change (where only what may
    be written can be reached). `own`: None where something else keeps signals in; otherwise the only process that may
    be signalled, beside the whole group.
    """

    network: bool = False
    metadata: bool = True
    own: int | None = None


def missing() -> str | None:
    """Why there is no filter for this machine, if there is none."""
    machine = os.uname().machine
    return None if machine in _MACHINES else f"the system calls of {machine} are not known here"


def program(rules: Rules, machine: str) -> bytes:
    """The filter for a machine ("x86_64" or "aarch64"), as the kernel takes it."""
    column, architecture = _MACHINES[machine]
    code: Code = [(_LOAD, 0, 0, _DATA_ARCH), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, _DATA_NR)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, 0x40000000), _refuse()]  # the numbers of x32
    for numbers in (_REFUSED | ({} if rules.metadata else _METADATA)).values():
        code += _when(numbers[column], [_refuse()])
    for numbers, body in _conditional(rules):
        code += _when(numbers[column], body)
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def apply(rules: Rules) -> None:
    """Refuse these calls from now on, in this process and in all that it starts.

    Raises:
        OSError: the kernel takes no filter.
    """
    code = program(rules, os.uname().machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0):  # no new privileges; the filter
        raise OSError(ctypes.get_errno(), "seccomp takes no filter here")


def _conditional(rules: Rules) -> list[tuple[tuple[int | None, int | None], Code]]:
    """Calls whose arguments decide: numbers, and code that always returns."""
    refusing = errno.EACCES
    found: list[tuple[tuple[int | None, int | None], Code]] = [
        (_CLONE, [_argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _refuse(), _allow()]),
        (_CLONE3, [_refuse(errno.ENOSYS)]),  # its flags lie in memory; libraries fall back on clone
        (_IOCTL, [_argument(1), *_if_one_of((_TIOCSTI, _TIOCLINUX), _refuse()), _allow()]),
        (_SOCKETPAIR, [_argument(1), (_AND, 0, 0, 0xF), *_if_one_of(_STREAMS, _allow()), _refuse(refusing)]),
    ]
    found += [(numbers, [_argument(0), *_if_one_of((0,), _allow()), _refuse()]) for numbers in _OWN_ONLY.values()]
    if rules.network:
        kind: Code = [_argument(1), (_AND, 0, 0, 0xF), *_if_one_of(_STREAM_OR_DATAGRAM, _allow()), _refuse(refusing)]
        wrong: Code = [(_EQUAL, 2, 0, _INET[0]), (_EQUAL, 1, 0, _INET[1]), _refuse(refusing)]
        found.append((_SOCKET, [_argument(0), *wrong, *kind]))
    else:
        found += [(_SOCKET, [_refuse(refusing)]), (_CONNECT, [_refuse(refusing)])]
    if rules.metadata:
        found += [
            (numbers, [_argument(at), (_ANY_BIT, 0, 1, _SET_ID), _refuse(), _allow()])
            for numbers, at in _MODES.values()
        ]
    if rules.own is not None:
        only = [_argument(0), *_if_one_of((0, rules.own), _allow()), _refuse()]
        found += [(numbers, only) for numbers in _SIGNALS.values()] + [(_PIDFD_SEND_SIGNAL, [_refuse()])]
    return found


def _when(number: int | None, body: Code) -> Code:
    """`body`, which returns, when the call is `number`."""
    return [] if number is None else [(_EQUAL, 0, len(body), number), *body]


def _if_one_of(values: Sequence[int], then: tuple[int, int, int, int]) -> Code:
    return [step for value in values for step in ((_EQUAL, 0, 1, value), then)]


def _argument(at: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument; both machines are little-endian."""
    return (_LOAD, 0, 0, _DATA_ARGS + 8 * at)


def _refuse(number: int = errno.EPERM) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | number)


def _allow() -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ALLOW)
