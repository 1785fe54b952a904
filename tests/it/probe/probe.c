/*
 * Makes the system calls that it is told by name, each in a child of its own, and prints what each gave:
 * `name: ok`, `name: EPERM`, `name: SIGSYS`. Arguments are those of a caller who means it, chosen so that a call which
 * is let through harms nobody but this process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers that older headers lack. */
#define NR_MEMFD_SECRET 447
#define NR_MOUNT_SETATTR 442
#define NR_STATMOUNT 457
#define NR_LISTMOUNT 458
#define NR_OPEN_TREE_ATTR 467
#define X32_BIT 0x40000000L

static char page[4096];

/* A child that a clone-like call made must not walk on through this program. */
static long cloned(long pid)
{
	if (pid == 0)
		_exit(0);
	return pid;
}

static long clone3_newuser(void)
{
	uint64_t arguments[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	return cloned(syscall(SYS_clone3, arguments, sizeof arguments));
}

static long setns_own(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY);
	return fd < 0 ? fd : syscall(SYS_setns, fd, CLONE_NEWNET);
}

static long bpf_map(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };
	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr);
}

static long perf_event(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .exclude_kernel = 1 };
	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static long vm(long number)
{
	static char other[8];
	struct iovec local = { page, 8 }, remote = { other, 8 };
	return syscall(number, getpid(), &local, 1, &remote, 1, 0);
}

static long getfd_own(void)
{
	long fd = syscall(SYS_pidfd_open, getpid(), 0);
	return fd < 0 ? fd : syscall(SYS_pidfd_getfd, fd, 0, 0);
}

static long set_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return syscall(SYS_clock_settime, CLOCK_REALTIME, &now);
}

static long set_day(void)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	return syscall(SYS_settimeofday, &now, NULL);
}

static long adjust(void)
{
	struct timex change = { .modes = ADJ_STATUS, .status = STA_UNSYNC };
	return syscall(SYS_adjtimex, &change);
}

static long handle_of_root(void)
{
	struct file_handle *handle = (struct file_handle *)page;
	int mount;
	handle->handle_bytes = 128;
	return syscall(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &mount, 0);
}

/* The handle that opens the root of most ext4 file systems: inode 2, any generation. */
static long root_by_handle(void)
{
	struct { struct file_handle head; uint32_t inode, generation; } handle = { { 8, 1 }, 2, 0 };
	int fd = open("/", O_RDONLY);
	return syscall(SYS_open_by_handle_at, fd, &handle, O_RDONLY);
}

static long mount_read_write(void)
{
	uint64_t attr[4] = { 0, 1 /* MOUNT_ATTR_RDONLY is cleared */, 0, 0 };
	return syscall(NR_MOUNT_SETATTR, AT_FDCWD, "/", 0, attr, sizeof attr);
}

static long mounts_of(long number)
{
	uint64_t request[3] = { 24, ~0ULL, 0 };
	return syscall(number, request, page, number == NR_STATMOUNT ? sizeof page : 16, 0);
}

static long int80(long number, long first)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(0L), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
	/* The 32-bit entry gives its error as a negative 32-bit number. */
	if ((int)result < 0) {
		errno = -(int)result;
		return -1;
	}
	return result;
}

static long type_into_terminal(unsigned long request)
{
	char byte = 'x';
	return ioctl(0, request, &byte);
}

static long link_to_device(mode_t type)
{
	char path[64];
	snprintf(path, sizeof path, "/tmp/node-%d", getpid());
	return mknod(path, type | 0666, makedev(1, 3));
}

#define SOCKET(family, type, protocol) syscall(SYS_socket, family, type, protocol)
/* The upper half is garbage that the kernel does not look at: a filter that does is passed by it. */
#define GARBAGE(value) (0x1234567800000000UL | (unsigned long)(value))

#define PROBES(P) \
	P(control, syscall(SYS_getpid)) \
	P(unshare_user, syscall(SYS_unshare, CLONE_NEWUSER)) \
	P(unshare_ns, syscall(SYS_unshare, CLONE_NEWNS)) \
	P(unshare_net, syscall(SYS_unshare, CLONE_NEWNET)) \
	P(unshare_pid, syscall(SYS_unshare, CLONE_NEWPID)) \
	P(unshare_ipc, syscall(SYS_unshare, CLONE_NEWIPC)) \
	P(unshare_uts, syscall(SYS_unshare, CLONE_NEWUTS)) \
	P(unshare_cgroup, syscall(SYS_unshare, CLONE_NEWCGROUP)) \
	P(unshare_time, syscall(SYS_unshare, 0x80)) \
	P(clone_newuser, cloned(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0))) \
	P(clone_newuser_garbage, cloned(syscall(SYS_clone, GARBAGE(CLONE_NEWUSER | SIGCHLD), 0, 0, 0, 0))) \
	P(clone_newns, cloned(syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0))) \
	P(clone_newnet, cloned(syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0))) \
	P(clone_newpid, cloned(syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0))) \
	P(clone3_newuser, clone3_newuser()) \
	P(setns, setns_own()) \
	P(mount_tmpfs, syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, "")) \
	P(mount_proc, syscall(SYS_mount, "proc", "/tmp", "proc", 0, "")) \
	P(mount_bind, syscall(SYS_mount, "/proc/self", "/tmp", NULL, MS_BIND, NULL)) \
	P(remount_root, syscall(SYS_mount, NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL)) \
	P(umount2_proc, syscall(SYS_umount2, "/proc", MNT_DETACH)) \
	P(umount2_mask, syscall(SYS_umount2, "/proc/keys", MNT_DETACH)) \
	P(pivot_root, syscall(SYS_pivot_root, "/tmp", "/tmp")) \
	P(fsopen, syscall(SYS_fsopen, "tmpfs", 0)) \
	P(fsconfig, syscall(SYS_fsconfig, 0, 6, NULL, NULL, 0)) \
	P(fsmount, syscall(SYS_fsmount, 0, 0, 0)) \
	P(open_tree_clone, syscall(SYS_open_tree, AT_FDCWD, "/", 1)) \
	P(open_tree_attr, syscall(NR_OPEN_TREE_ATTR, AT_FDCWD, "/", 1, NULL, 0)) \
	P(move_mount, syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0)) \
	P(mount_setattr, mount_read_write()) \
	P(fspick, syscall(SYS_fspick, AT_FDCWD, "/", 0)) \
	P(statmount, mounts_of(NR_STATMOUNT)) \
	P(listmount, mounts_of(NR_LISTMOUNT)) \
	P(chroot, syscall(SYS_chroot, "/tmp")) \
	P(add_key, syscall(SYS_add_key, "user", "aegis-probe", "x", 1, -2)) \
	P(request_key, syscall(SYS_request_key, "user", "aegis-probe", NULL, -2)) \
	P(keyctl, syscall(SYS_keyctl, 0, -3, 1)) \
	P(bpf_map, bpf_map()) \
	P(perf_event_open, perf_event()) \
	P(userfaultfd, syscall(SYS_userfaultfd, O_CLOEXEC | 1)) \
	P(io_uring_setup, syscall(SYS_io_uring_setup, 1, memset(page, 0, 120))) \
	P(io_uring_enter, syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0)) \
	P(io_uring_register, syscall(SYS_io_uring_register, -1, 0, NULL, 0)) \
	P(ptrace_traceme, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0)) \
	P(ptrace_seize_pid1, syscall(SYS_ptrace, PTRACE_SEIZE, 1, 0, 0)) \
	P(process_vm_readv, vm(SYS_process_vm_readv)) \
	P(process_vm_writev, vm(SYS_process_vm_writev)) \
	P(kcmp, syscall(SYS_kcmp, getpid(), getpid(), 1, 0, 0)) \
	P(pidfd_getfd, getfd_own()) \
	P(init_module, syscall(SYS_init_module, page, sizeof page, "")) \
	P(finit_module, syscall(SYS_finit_module, 0, "", 0)) \
	P(delete_module, syscall(SYS_delete_module, "aegis_no_such_module", O_NONBLOCK)) \
	P(kexec_load, syscall(SYS_kexec_load, 0, 1, page, 0xffff0000UL)) \
	P(kexec_file_load, syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0xffffUL)) \
	P(reboot_noop, syscall(SYS_reboot, 0xfee1dead, 672274793, 0xffffffffUL, NULL)) \
	P(swapon, syscall(SYS_swapon, "/tmp/aegis-no-such-file", 0)) \
	P(swapoff, syscall(SYS_swapoff, "/tmp/aegis-no-such-file")) \
	P(clock_settime, set_clock()) \
	P(settimeofday, set_day()) \
	P(adjtimex_set, adjust()) \
	P(sethostname, syscall(SYS_sethostname, "sandbox", 7)) \
	P(setdomainname, syscall(SYS_setdomainname, "(none)", 6)) \
	P(acct, syscall(SYS_acct, "/tmp/aegis-no-such-file")) \
	P(quotactl, syscall(SYS_quotactl, 0x80000100UL, NULL, 0, NULL)) \
	P(vhangup, syscall(SYS_vhangup)) \
	P(syslog_read_all, syscall(SYS_syslog, 3, page, sizeof page)) \
	P(iopl, syscall(SYS_iopl, 3)) \
	P(ioperm, syscall(SYS_ioperm, 0x80, 1, 1)) \
	P(modify_ldt, syscall(SYS_modify_ldt, 0, page, 16)) \
	P(lookup_dcookie, syscall(SYS_lookup_dcookie, 0UL, page, sizeof page)) \
	P(uselib, syscall(SYS_uselib, "/bin/true")) \
	P(ustat, syscall(SYS_ustat, 0, page)) \
	P(sysfs, syscall(SYS_sysfs, 3)) \
	P(_sysctl, syscall(SYS__sysctl, page)) \
	P(open_by_handle_at, root_by_handle()) \
	P(name_to_handle_at, handle_of_root()) \
	P(fanotify_init, syscall(SYS_fanotify_init, 0x200, 0)) \
	P(sock_packet, SOCKET(AF_PACKET, SOCK_RAW, htons(3))) \
	P(sock_packet_dgram, SOCKET(AF_PACKET, SOCK_DGRAM, htons(3))) \
	P(sock_raw_icmp, SOCKET(AF_INET, SOCK_RAW, IPPROTO_ICMP)) \
	P(sock_raw_icmp6, SOCKET(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)) \
	P(sock_inet_packet, SOCKET(AF_INET, SOCK_PACKET, htons(3))) \
	P(sock_xdp, SOCKET(AF_XDP, SOCK_RAW, 0)) \
	P(sock_alg, SOCKET(AF_ALG, SOCK_SEQPACKET, 0)) \
	P(sock_alg_garbage, SOCKET(GARBAGE(AF_ALG), SOCK_SEQPACKET, 0)) \
	P(sock_vsock, SOCKET(AF_VSOCK, SOCK_STREAM, 0)) \
	P(sock_bluetooth, SOCKET(AF_BLUETOOTH, SOCK_RAW, 0)) \
	P(sock_tipc, SOCKET(AF_TIPC, SOCK_STREAM, 0)) \
	P(sock_rds, SOCKET(AF_RDS, SOCK_SEQPACKET, 0)) \
	P(sock_can, SOCKET(AF_CAN, SOCK_RAW, 1)) \
	P(sock_ax25, SOCKET(AF_AX25, SOCK_DGRAM, 0)) \
	P(sock_appletalk, SOCKET(AF_APPLETALK, SOCK_DGRAM, 0)) \
	P(sock_x25, SOCKET(AF_X25, SOCK_SEQPACKET, 0)) \
	P(sock_smc, SOCKET(AF_SMC, SOCK_STREAM, 0)) \
	P(sock_kcm, SOCKET(AF_KCM, SOCK_DGRAM, 0)) \
	P(sock_qipcrtr, SOCKET(AF_QIPCRTR, SOCK_DGRAM, 0)) \
	P(sock_pppox, SOCKET(AF_PPPOX, SOCK_STREAM, 0)) \
	P(sock_key, SOCKET(AF_KEY, SOCK_RAW, 2)) \
	P(sock_netlink_audit, SOCKET(AF_NETLINK, SOCK_RAW, 9)) \
	P(sock_netlink_uevent, SOCKET(AF_NETLINK, SOCK_RAW, 15)) \
	P(sock_netlink_netfilter, SOCKET(AF_NETLINK, SOCK_RAW, 12)) \
	P(sock_udplite, SOCKET(AF_INET, SOCK_DGRAM, 136)) \
	P(sock_sctp, SOCKET(AF_INET, SOCK_STREAM, 132)) \
	P(sock_mptcp, SOCKET(AF_INET, SOCK_STREAM, 262)) \
	P(sock_ping, SOCKET(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)) \
	P(sock_ping6, SOCKET(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)) \
	P(sock_dccp, SOCKET(AF_INET, 6, 33)) \
	P(sock_tcp, SOCKET(AF_INET, SOCK_STREAM, 0)) \
	P(sock_udp6, SOCKET(AF_INET6, SOCK_DGRAM, 0)) \
	P(x32_getpid, syscall(X32_BIT | SYS_getpid)) \
	P(x32_ptrace, syscall(X32_BIT | 521, 0, 0, 0, 0)) \
	P(int80_getpid, int80(20, 0)) \
	P(int80_unshare, int80(310, CLONE_NEWUSER)) \
	P(int80_socketcall, int80(102, 1)) \
	P(personality_aslr_off, syscall(SYS_personality, ADDR_NO_RANDOMIZE)) \
	P(personality_read_exec, syscall(SYS_personality, READ_IMPLIES_EXEC)) \
	P(mbind, syscall(SYS_mbind, page, 4096, 0, NULL, 0, 0)) \
	P(move_pages, syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0)) \
	P(migrate_pages, syscall(SYS_migrate_pages, 0, 1, page, page)) \
	P(set_mempolicy, syscall(SYS_set_mempolicy, 0, NULL, 0)) \
	P(memfd_secret, syscall(NR_MEMFD_SECRET, 0)) \
	P(mknod_blk, link_to_device(S_IFBLK)) \
	P(mknod_chr, link_to_device(S_IFCHR)) \
	P(mknod_fifo, link_to_device(S_IFIFO)) \
	P(tiocsti, type_into_terminal(0x5412)) \
	P(tiocsti_garbage, syscall(SYS_ioctl, 0, GARBAGE(0x5412), "x")) \
	P(tioclinux, type_into_terminal(0x541C)) \
	P(tioccons, type_into_terminal(0x541D))

#define DEFINE(name, call) static long probe_##name(void) { return call; }
PROBES(DEFINE)

#define ENTRY(name, call) { #name, probe_##name },
static const struct { const char *name; long (*call)(void); } probes[] = { PROBES(ENTRY) };

static void report(const char *name, long (*call)(void))
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		errno = 0;
		long result = call();
		printf("%s: %s\n", name, result == -1 && errno ? strerrorname_np(errno) : "ok");
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		printf("%s: not run\n", name);
	else if (WIFSIGNALED(status))
		printf("%s: SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	for (int at = 1; at < argc; at++) {
		size_t it = 0;
		while (it < sizeof probes / sizeof *probes && strcmp(probes[it].name, argv[at]))
			it++;
		if (it == sizeof probes / sizeof *probes) {
			printf("%s: no such probe\n", argv[at]);
			return 2;
		}
		report(probes[it].name, probes[it].call);
	}
	return 0;
}
