/*
 * A debugger in small: traces a child of its own, reads and changes its memory, and gives what the child then ends with.
 * Then the same calls against PID 1, which must be refused: each prints `name: ok` or the name of its error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int shown = 41;

static void try(const char *name, long result)
{
	printf("%s: %s\n", name, result == -1 ? strerrorname_np(errno) : "ok");
}

int main(void)
{
	int status, seen = 0;
	struct iovec local = { &seen, sizeof seen }, remote = { (void *)&shown, sizeof shown };
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(shown);
	}
	waitpid(child, &status, 0);
	try("read a child", process_vm_readv(child, &local, 1, &remote, 1, 0));
	try("write a child", ptrace(PTRACE_POKEDATA, child, &shown, seen + 1L));
	try("continue a child", ptrace(PTRACE_CONT, child, NULL, NULL));
	waitpid(child, &status, 0);
	printf("the child ended with %d\n", WEXITSTATUS(status));

	try("init attach", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
	try("init seize", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
	try("init readv", process_vm_readv(1, &local, 1, &remote, 1, 0));
	try("init writev", process_vm_writev(1, &local, 1, &remote, 1, 0));
	return 0;
}
