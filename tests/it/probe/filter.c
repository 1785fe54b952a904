/*
 * Reads the system-call filters that a process is under, from outside, and says what they would answer:
 * `filter PID NUMBER:ARG0:ARG1:ARG2 …` prints `allow`, `errno N` or `kill` for each. The filters are read from the
 * kernel, not from what somebody says was loaded, and run here as the kernel runs them.
 * Exit status 3: this kernel or this user cannot read filters.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define FILTERS_MAX 8

static struct sock_filter programs[FILTERS_MAX][BPF_MAXINSNS];
static long lengths[FILTERS_MAX];

static uint32_t run(const struct sock_filter *program, const struct seccomp_data *data)
{
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = { 0 };
	for (size_t at = 0;; at++) {
		uint32_t k = program[at].k;
		switch (program[at].code) {
		case BPF_LD | BPF_W | BPF_ABS: memcpy(&a, (const char *)data + k, 4); break;
		case BPF_LD | BPF_IMM: a = k; break;
		case BPF_LD | BPF_MEM: a = memory[k]; break;
		case BPF_LDX | BPF_IMM: x = k; break;
		case BPF_LDX | BPF_MEM: x = memory[k]; break;
		case BPF_ST: memory[k] = a; break;
		case BPF_STX: memory[k] = x; break;
		case BPF_MISC | BPF_TAX: x = a; break;
		case BPF_MISC | BPF_TXA: a = x; break;
		case BPF_ALU | BPF_AND | BPF_K: a &= k; break;
		case BPF_ALU | BPF_RSH | BPF_K: a >>= k; break;
		case BPF_JMP | BPF_JA: at += k; break;
		case BPF_JMP | BPF_JEQ | BPF_K: at += a == k ? program[at].jt : program[at].jf; break;
		case BPF_JMP | BPF_JGT | BPF_K: at += a > k ? program[at].jt : program[at].jf; break;
		case BPF_JMP | BPF_JGE | BPF_K: at += a >= k ? program[at].jt : program[at].jf; break;
		case BPF_JMP | BPF_JSET | BPF_K: at += a & k ? program[at].jt : program[at].jf; break;
		case BPF_RET | BPF_K: return k;
		case BPF_RET | BPF_A: return a;
		default:
			fprintf(stderr, "instruction %#x is not one that filters here use\n", program[at].code);
			exit(1);
		}
	}
}

static int load(pid_t pid)
{
	int status, count = 0;
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, __WALL) < 0)
		return -1;
	while (count < FILTERS_MAX) {
		lengths[count] = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(long)count, programs[count]);
		if (lengths[count] < 0)
			break;
		count++;
	}
	int missing = count == 0 || errno != ENOENT;
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return missing ? -1 : count;
}

/* The strictest answer wins; as signed numbers the kernel's actions are ordered from strict to lax. */
static uint32_t strictest(int count, const struct seccomp_data *data)
{
	uint32_t answer = SECCOMP_RET_ALLOW;
	for (int it = 0; it < count; it++) {
		uint32_t one = run(programs[it], data);
		if ((int32_t)(one & SECCOMP_RET_ACTION_FULL) < (int32_t)(answer & SECCOMP_RET_ACTION_FULL))
			answer = one;
	}
	return answer;
}

int main(int argc, char **argv)
{
	int count = argc < 3 ? -1 : load(atoi(argv[1]));
	if (count < 0) {
		perror("filters cannot be read");
		return 3;
	}
	for (int at = 2; at < argc; at++) {
		struct seccomp_data data = { .arch = AUDIT_ARCH_X86_64 };
		char *text = argv[at];
		data.nr = strtoul(text, &text, 0);
		for (int it = 0; it < 6 && *text == ':'; it++)
			data.args[it] = strtoull(text + 1, &text, 0);
		uint32_t answer = strictest(count, &data);
		switch (answer & SECCOMP_RET_ACTION_FULL) {
		case SECCOMP_RET_ALLOW: printf("%s allow\n", argv[at]); break;
		case SECCOMP_RET_ERRNO: printf("%s errno %u\n", argv[at], answer & SECCOMP_RET_DATA); break;
		default: printf("%s kill\n", argv[at]);
		}
	}
	return 0;
}
