"""Which system calls a container may use: those named here, and no others (seccomp(2)).

A list of what is allowed, since a list of what is forbidden would let in whatever a later kernel brings.  FRR, BIRD,
tcpdump, nft and what a user usually runs do with these.  Pure.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

_ALLOWED = """
    _llseek accept accept4 access alarm arch_prctl arm_fadvise64_64 bind brk cacheflush capget capset chdir chmod
    chown chroot clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat
    exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchown fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_waitv futimesat get_robust_list getcpu getcwd getdents
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_setup io_submit ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr
    lstat lstat64 madvise membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap
    mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat nice open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2
    prlimit64 pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
    recvmmsg recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_tid_address set_tls setdomainname setfsgid setfsuid setgid setgroups sethostname setitimer setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt
    shmget shutdown sigaltstack signalfd signalfd4 sigreturn socketpair splice stat stat64 statfs statfs64 statx
    symlink symlinkat sync_file_range sync_file_range2 sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid waitpid
    write writev
"""
ALLOWED = frozenset(_ALLOWED.split())
# What else there is, told apart only by its error: programs know what to do when they are not permitted to.
_REFUSED = """
    mount umount2 pivot_root move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
    unshare setns bpf add_key request_key keyctl
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct
    settimeofday clock_settime clock_adjtime adjtimex iopl ioperm modify_ldt personality
    quotactl quotactl_fd open_by_handle_at name_to_handle_at lookup_dcookie
    perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd
    syslog vhangup fanotify_init fanotify_mark mbind migrate_pages move_pages set_mempolicy get_mempolicy
    sched_setattr sync syncfs
"""
# sync(2) and syncfs(2) write what others left to be written, and whoever has written waits; fsync(2) is one's own.
REFUSED = frozenset(_REFUSED.split())
# AF_VSOCK leads to the machine that this one is a guest of, AF_ALG to much code of the kernel: neither is a network.
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET)
NEW_NAMESPACES = 0x7E020000  # the flags of clone(2) that make namespaces, CLONE_NEWUSER among them
_TIOCSTI = 0x5412  # ioctl(2) that puts words into the mouth of whoever sits at a terminal


def profile() -> dict[str, Any]:
    """The `linux.seccomp` of a container's configuration, for the machine's own architecture only."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "syscalls": [
            _rule(sorted(ALLOWED), "SCMP_ACT_ALLOW"),
            _rule(sorted(REFUSED), "SCMP_ACT_ERRNO", errno_ret=errno.EPERM),
            _rule(["clone"], "SCMP_ACT_ALLOW", args=[_arg(0, NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ", 0)]),
            *(_rule(["socket"], "SCMP_ACT_ALLOW", args=[_arg(0, family, "SCMP_CMP_EQ")]) for family in FAMILIES),
            *(_rule(["ioctl"], "SCMP_ACT_ALLOW", args=[differs]) for differs in _differs(_TIOCSTI)),
        ],
    }


def _differs(request: int) -> list[dict[str, Any]]:
    """Comparisons of which one is true of any other request.

    Bit by bit: the kernel looks at the lower half of that argument only, and "not equal" would compare all of it.
    """
    return [_arg(1, bit, "SCMP_CMP_MASKED_EQ", ~request & bit) for bit in (1 << n for n in range(32))]


def _arg(index: int, value: int, op: str, two: int = 0) -> dict[str, Any]:
    return {"index": index, "value": int(value), "valueTwo": two, "op": op}


def _rule(
    names: list[str], action: str, *, errno_ret: int = 0, args: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    error = {"errnoRet": errno_ret} if errno_ret else {}
    return {"names": names, "action": action, **error, **({"args": args} if args else {})}
