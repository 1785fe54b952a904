/*
 * `storm SECONDS`: children make system calls of every number with odd arguments until the time is over. A child that
 * a call ended is replaced. Calls that only wait or end are left out. Prints how many calls were made.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS 512
#define CALLS_PER_CHILD 400

static const int left_out[] = { SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigsuspend, SYS_kill, SYS_tkill, SYS_tgkill,
	SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_fork, SYS_vfork, SYS_clone,
	SYS_rt_sigreturn, SYS_alarm, SYS_setitimer, SYS_rt_sigprocmask, SYS_rt_sigaction };

static int skipped(int number)
{
	for (size_t it = 0; it < sizeof left_out / sizeof *left_out; it++)
		if (left_out[it] == number)
			return 1;
	return 0;
}

static void child(unsigned seed, unsigned long *calls, void *page)
{
	long odd[] = { 0, 1, -1, 2, 3, 4096, 0x7fffffffL, 0x80000000L, (long)0x8000000000000000UL, (long)page, (long)page + 4095,
		getpid(), -100 };
	size_t count = sizeof odd / sizeof *odd;
	/* What a call writes to a standard stream is none of the parent's words. */
	int null = open("/dev/null", O_RDWR);
	for (int it = 0; it < 3; it++)
		dup2(null, it);
	/* Whatever waits is ended by the clock. */
	struct itimerval clock = { .it_value.tv_usec = 50000 };
	setitimer(ITIMER_REAL, &clock, NULL);
	for (int it = 0; it < CALLS_PER_CHILD; it++) {
		long a[6];
		int number = rand_r(&seed) % NUMBERS;
		if (skipped(number))
			continue;
		for (int at = 0; at < 6; at++)
			a[at] = odd[rand_r(&seed) % count];
		__atomic_add_fetch(calls, 1, __ATOMIC_RELAXED);
		syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	time_t over = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The counter lies below, between two pages that nothing can write: a call that runs on from `page` misses it. */
	char *guarded = mmap(NULL, 3 * 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long *calls = (unsigned long *)(guarded + 4096);
	mprotect(calls, 4096, PROT_READ | PROT_WRITE);
	unsigned seed = 1;
	while (time(NULL) < over) {
		pid_t pids[8];
		for (int it = 0; it < 8; it++) {
			pids[it] = fork();
			if (pids[it] == 0)
				child(seed + it, calls, page);
		}
		seed += 8;
		for (int it = 0; it < 8; it++)
			if (pids[it] > 0)
				waitpid(pids[it], NULL, 0);
	}
	printf("%lu calls\nthe storm is over\n", *calls);
	return *calls > 1000 ? 0 : 1;
}
