/*
 * What a process can try against PID 1 of its sandbox, which has its uid: each attempt prints `name: ok` or the name of
 * its error. Signals are told apart (`signal …`), because the kernel takes them and drops them: they must do nothing.
 * `wall flood` sends many of them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define INIT 1
/* The upper half is garbage that the kernel does not look at: a filter that does is passed by it. */
#define GARBAGE(value) (0x1234567800000000UL | (unsigned long)(value))

static void tell(const char *name, const char *detail, long result)
{
	printf("%s%s%s: %s\n", name, *detail ? " " : "", detail, result == -1 ? strerrorname_np(errno) : "ok");
}

static void try(const char *name, long result)
{
	tell(name, "", result);
}

static void signals(void)
{
	char detail[32];
	long pidfd = syscall(SYS_pidfd_open, INIT, 0);
	for (int number = 1; number <= 64; number++) {
		siginfo_t info = { .si_signo = number, .si_code = SI_QUEUE };
		snprintf(detail, sizeof detail, "%d", number);
		tell("signal kill", detail, syscall(SYS_kill, INIT, number));
		tell("signal tkill", detail, syscall(SYS_tkill, INIT, number));
		tell("signal tgkill", detail, syscall(SYS_tgkill, INIT, INIT, number));
		tell("signal rt_sigqueueinfo", detail, syscall(SYS_rt_sigqueueinfo, INIT, number, &info));
		tell("signal rt_tgsigqueueinfo", detail, syscall(SYS_rt_tgsigqueueinfo, INIT, INIT, number, &info));
		tell("signal pidfd_send_signal", detail, syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0));
	}
	try("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 3, 0));
	try("setns by pidfd", syscall(SYS_setns, pidfd, CLONE_NEWPID));
	try("process_madvise", syscall(SYS_process_madvise, pidfd, NULL, 0, 8, 0));
	try("process_mrelease", syscall(SYS_process_mrelease, pidfd, 0));
}

/* The kernel sends a signal to whoever a descriptor names as its owner, and the owner may be PID 1. */
static void signal_by_descriptor(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return;
	for (int number = 1; number <= 64; number++) {
		fcntl(ends[0], F_SETSIG, number);
		fcntl(ends[0], F_SETOWN, INIT);
		fcntl(ends[0], F_SETFL, O_ASYNC);
		if (write(ends[1], "x", 1) != 1)
			return;
		char byte;
		if (read(ends[0], &byte, 1) != 1)
			return;
	}
	struct f_owner_ex owner = { F_OWNER_TID, INIT };
	try("signal F_SETOWN_EX", fcntl(ends[0], F_SETOWN_EX, &owner));
	if (write(ends[1], "x", 1) == 1)
		try("signal by descriptor", 0);
}

static void limits(void)
{
	for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
		struct rlimit64 none = { 0, 0 }, old;
		char detail[32];
		snprintf(detail, sizeof detail, "%d", resource);
		tell("prlimit set", detail, syscall(SYS_prlimit64, INIT, resource, &none, NULL));
		tell("prlimit get", detail, syscall(SYS_prlimit64, INIT, resource, NULL, &old));
		tell("prlimit garbage", detail, syscall(SYS_prlimit64, GARBAGE(INIT), resource, &none, NULL));
	}
}

static void scheduling(void)
{
	struct sched_param idle = { 0 }, high = { 50 };
	/* `struct sched_attr`, which headers do not agree on: its size, then the policy. */
	uint32_t attr[12] = { sizeof attr, SCHED_IDLE };
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	try("sched_setaffinity", syscall(SYS_sched_setaffinity, INIT, sizeof one, &one));
	try("sched_setaffinity garbage", syscall(SYS_sched_setaffinity, GARBAGE(INIT), sizeof one, &one));
	try("sched_setscheduler idle", syscall(SYS_sched_setscheduler, INIT, SCHED_IDLE, &idle));
	try("sched_setscheduler batch", syscall(SYS_sched_setscheduler, INIT, SCHED_BATCH, &idle));
	try("sched_setscheduler fifo", syscall(SYS_sched_setscheduler, INIT, SCHED_FIFO, &high));
	try("sched_setparam", syscall(SYS_sched_setparam, INIT, &idle));
	try("sched_setattr", syscall(SYS_sched_setattr, INIT, attr, 0));
	try("setpriority process", syscall(SYS_setpriority, PRIO_PROCESS, INIT, 19));
	try("setpriority group", syscall(SYS_setpriority, PRIO_PGRP, INIT, 19));
	try("setpriority own group", syscall(SYS_setpriority, PRIO_PGRP, 0, 19));
	try("setpriority user", syscall(SYS_setpriority, PRIO_USER, getuid(), 19));
	try("setpriority own user", syscall(SYS_setpriority, PRIO_USER, 0, 19));
	try("ioprio_set process", syscall(SYS_ioprio_set, 1, INIT, 3 << 13));
	try("ioprio_set group", syscall(SYS_ioprio_set, 2, INIT, 3 << 13));
	try("ioprio_set user", syscall(SYS_ioprio_set, 3, getuid(), 3 << 13));
	try("setpgid", syscall(SYS_setpgid, INIT, getpid()));
	try("migrate_pages", syscall(SYS_migrate_pages, INIT, 1, &one, &one));
	try("move_pages", syscall(SYS_move_pages, INIT, 0, NULL, NULL, NULL, 0));
}

static void memory(void)
{
	char byte;
	void *head;
	size_t size;
	struct iovec local = { &byte, 1 }, remote = { (void *)0x400000, 1 };
	try("ptrace attach", syscall(SYS_ptrace, PTRACE_ATTACH, INIT, 0, 0));
	try("ptrace seize", syscall(SYS_ptrace, PTRACE_SEIZE, INIT, 0, 0));
	try("process_vm_readv", syscall(SYS_process_vm_readv, INIT, &local, 1, &remote, 1, 0));
	try("process_vm_writev", syscall(SYS_process_vm_writev, INIT, &local, 1, &remote, 1, 0));
	try("kcmp", syscall(SYS_kcmp, INIT, getpid(), 1, 0, 0));
	try("get_robust_list", syscall(SYS_get_robust_list, INIT, &head, &size));
	try("perf_event_open", syscall(SYS_perf_event_open, &byte, INIT, -1, -1, 0));
}

/* Opens a file of PID 1 and uses it: some are refused when they are opened, some when they are read or written. */
static long use(const char *path, int flags, const char *text)
{
	char byte;
	int fd = open(path, flags | O_NONBLOCK);
	if (fd < 0)
		return -1;
	long result = flags == O_RDONLY ? read(fd, &byte, 1) : write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	/* An empty file told nothing. */
	if (flags == O_RDONLY && result == 0) {
		errno = ENODATA;
		return -1;
	}
	errno = error;
	return result;
}

static void files(void)
{
	static const char *const secret[] = { "mem", "environ", "auxv", "maps", "smaps", "smaps_rollup", "numa_maps", "pagemap",
		"stack", "syscall", "personality", "io", "timers", "fdinfo/0", "fd/0", "fd/3", "exe", "root/etc/passwd",
		"cwd/etc/passwd", "task/1/mem", "task/1/environ", "task/1/fd/0" };
	static const char *const steering[] = { "mem", "oom_score_adj", "oom_adj", "clear_refs", "comm", "task/1/comm",
		"autogroup", "sched", "timerslack_ns", "coredump_filter", "attr/current", "attr/exec", "uid_map", "gid_map",
		"setgroups", "loginuid", "projid_map", "timens_offsets", "make-it-fail", "fail-nth", "sessionid" };
	static const char *const links[] = { "cwd", "root", "exe", "fd/0", "fd/3", "ns/mnt", "ns/pid", "ns/net", "ns/user" };
	static const char *const directories[] = { "fd", "fdinfo", "map_files", "cwd", "root" };
	char path[128], target[256];
	for (size_t it = 0; it < sizeof secret / sizeof *secret; it++) {
		snprintf(path, sizeof path, "/proc/1/%s", secret[it]);
		tell("read", path, use(path, O_RDONLY, NULL));
	}
	for (size_t it = 0; it < sizeof steering / sizeof *steering; it++) {
		snprintf(path, sizeof path, "/proc/1/%s", steering[it]);
		tell("write", path, use(path, O_WRONLY, "0"));
	}
	for (size_t it = 0; it < sizeof links / sizeof *links; it++) {
		snprintf(path, sizeof path, "/proc/1/%s", links[it]);
		tell("readlink", path, readlink(path, target, sizeof target));
	}
	for (size_t it = 0; it < sizeof directories / sizeof *directories; it++) {
		/* The map of open files may be entered by nobody; opening it for its names is refused where names are. */
		snprintf(path, sizeof path, "/proc/1/%s/.", directories[it]);
		tell("list", path, open(path, O_RDONLY | O_DIRECTORY));
	}
}

static void own_directory(void)
{
	struct sockaddr_un address = { AF_UNIX, "/.aegis/control.sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	try("list /.aegis", open("/.aegis", O_RDONLY | O_DIRECTORY));
	try("open control.sock", open("/.aegis/control.sock", O_RDONLY));
	try("connect control.sock", connect(fd, (struct sockaddr *)&address, sizeof address));
	/* The abstract name of the same text, and the path itself from the network namespace. */
	struct sockaddr_un abstract = { AF_UNIX, "\0/.aegis/control.sock" };
	try("connect abstract", connect(fd, (struct sockaddr *)&abstract, sizeof abstract));
	try("bind control.sock", bind(fd, (struct sockaddr *)&address, sizeof address));
	try("write init", open("/.aegis/aegis-init", O_WRONLY));
	try("truncate init", truncate("/.aegis/aegis-init", 0));
	try("unlink init", unlink("/.aegis/aegis-init"));
	try("rename init", rename("/.aegis/aegis-init", "/.aegis/other"));
	try("chmod init", chmod("/.aegis/aegis-init", 0777));
	try("chmod directory", chmod("/.aegis", 0777));
	try("create beside init", open("/.aegis/mark", O_CREAT | O_WRONLY, 0600));
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "flood")) {
		siginfo_t info = { .si_code = SI_QUEUE };
		for (long it = 0; it < 200000; it++)
			syscall(SYS_rt_sigqueueinfo, INIT, it % 64 + 1, &info);
		puts("flooded");
		return 0;
	}
	signals();
	signal_by_descriptor();
	limits();
	scheduling();
	memory();
	files();
	own_directory();
	puts("everything is tried");
	return 0;
}
