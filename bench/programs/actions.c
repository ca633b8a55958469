/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * actions NAME COUNT DIRECTORY [RATE]: does one thing so many times, for
 * benchmarks of what is hooked there. Prints the mean time of one in
 * nanoseconds, for each tenth of them. With RATE, so many a second, by a
 * timetable: who is late catches up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int listener = -1, datagram = -1;
static struct sockaddr_in here = { .sin_family = AF_INET }, resolver = { .sin_family = AF_INET };
static struct sockaddr_in6 here6 = { .sin6_family = AF_INET6 };
static pid_t child;
static void *page;
static char path[2][4096];
static const char *directory;

static void must(int value, const char *what)
{
	if (value < 0) {
		perror(what);
		exit(1);
	}
}

static void name(int number, int i)
{
	snprintf(path[number], sizeof(path[number]), "%s/%d-%d", directory, number, i);
}

static void getppid_once(int i)
{
	syscall(SYS_getppid);
}

static void execve_once(int i)
{
	char argument[32];
	char *argv[] = { "/bin/true", "--number", argument, NULL };
	pid_t pid;

	snprintf(argument, sizeof(argument), "%d", i);
	must(-posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), "posix_spawn");
	must(waitpid(pid, NULL, 0), "waitpid");
}

#define MANY	100	/* arguments of a large execution */
#define DEEP	40	/* folders below each other */

static char *many[MANY + 2];

static void make_arguments(void)
{
	many[0] = "/bin/true";
	for (int i = 1; i <= MANY; i++)
		many[i] = "--an-argument=of-sixty-bytes-as-a-compiler-or-a-linker-has-them";
}

static void execve_large_once(int i)
{
	pid_t pid;

	must(-posix_spawn(&pid, many[0], NULL, NULL, many, environ), "posix_spawn");
	must(waitpid(pid, NULL, 0), "waitpid");
}

static void go_deep(void)
{
	must(chdir(directory), "chdir");
	for (int i = 0; i < DEEP; i++) {
		mkdir("a-folder", 0700);
		must(chdir("a-folder"), "chdir");
	}
}

static void fork_once(int i)
{
	pid_t pid = fork();

	must(pid, "fork");
	if (!pid)
		_exit(0);
	must(waitpid(pid, NULL, 0), "waitpid");
}

static void execve_failed_once(int i)
{
	char *argv[] = { "nothing", NULL };

	execv("/nonexistent/program", argv);
}

static void open_listener(void)
{
	socklen_t length = sizeof(here);

	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(listener = socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(bind(listener, (void *)&here, length), "bind");
	must(listen(listener, 4096), "listen");
	must(getsockname(listener, (void *)&here, &length), "getsockname");
}

static void connect_once(int i)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct linger reset = { .l_onoff = 1 };

	must(connect(fd, (void *)&here, sizeof(here)), "connect");
	close(accept(listener, NULL, NULL));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void open_listener6(void)
{
	socklen_t length = sizeof(here6);

	here6.sin6_addr = in6addr_loopback;
	must(listener = socket(AF_INET6, SOCK_STREAM, 0), "socket");
	must(bind(listener, (void *)&here6, length), "bind");
	must(listen(listener, 4096), "listen");
	must(getsockname(listener, (void *)&here6, &length), "getsockname");
}

static void connect6_once(int i)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct linger reset = { .l_onoff = 1 };

	must(connect(fd, (void *)&here6, sizeof(here6)), "connect");
	close(accept(listener, NULL, NULL));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void connect_udp_once(int i)
{
	struct sockaddr_in far = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	far.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(connect(fd, (void *)&far, sizeof(far)), "connect");
	close(fd);
}

static void bind_once(int i)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	must(bind(fd, (void *)&any, sizeof(any)), "bind");
	close(fd);
}

/* A question and its answer, which this very process gives. */
static const char question[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\7example\3com\0\0\1\0\1"
			       "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x5d\xb8\xd8\x22";

static void open_resolver(void)
{
	resolver.sin_addr.s_addr = inet_addr("127.90.53.53");
	resolver.sin_port = htons(53);
	must(listener = socket(AF_INET, SOCK_DGRAM, 0), "socket");
	must(bind(listener, (void *)&resolver, sizeof(resolver)), "bind");
	must(datagram = socket(AF_INET, SOCK_DGRAM, 0), "socket");
	must(connect(datagram, (void *)&resolver, sizeof(resolver)), "connect");
}

static void dns_once(int i)
{
	struct sockaddr_in asker;
	socklen_t length = sizeof(asker);
	char buffer[512];

	must(send(datagram, question, 12, 0), "send");
	must(recvfrom(listener, buffer, sizeof(buffer), 0, (void *)&asker, &length), "recvfrom");
	must(sendto(listener, question, sizeof(question) - 1, 0, (void *)&asker, length), "sendto");
	must(recv(datagram, buffer, sizeof(buffer), 0), "recv");
}

static void create_file_once(int i)
{
	name(0, i);
	close(open(path[0], O_CREAT | O_EXCL | O_WRONLY, 0600));
	unlink(path[0]);
}

static void open_once(int i)
{
	int fd = open(path[0], O_RDONLY);

	must(fd, "open");
	close(fd);
}

static void read_once(int i)
{
	char byte;

	must(pread(listener, &byte, 1, 0), "pread");
	must(read(listener, &byte, 1), "read");
}

static void open_zero(void)
{
	must(listener = open("/dev/zero", O_RDONLY), "/dev/zero");
}

static void make_names(void)
{
	name(0, 0);
	close(open(path[0], O_CREAT | O_WRONLY, 0600));
}

static void rename_once(int i)
{
	snprintf(path[1], sizeof(path[1]), "%s/other", directory);
	name(0, 0);
	must(i & 1 ? rename(path[1], path[0]) : rename(path[0], path[1]), "rename");
}

static void link_once(int i)
{
	snprintf(path[1], sizeof(path[1]), "%s/link", directory);
	must(link(path[0], path[1]), "link");
	must(unlink(path[1]), "unlink");
}

static void rmdir_once(int i)
{
	snprintf(path[1], sizeof(path[1]), "%s/directory", directory);
	must(mkdir(path[1], 0700), "mkdir");
	must(rmdir(path[1]), "rmdir");
}

static void start_child(void)
{
	must(child = fork(), "fork");
	if (!child)
		for (;;)
			pause();
}

static void ptrace_once(int i)
{
	must(ptrace(PTRACE_SEIZE, child, 0, 0), "ptrace");
	must(ptrace(PTRACE_INTERRUPT, child, 0, 0), "ptrace");
	must(waitpid(child, NULL, __WALL), "waitpid");
	must(ptrace(PTRACE_DETACH, child, 0, 0), "ptrace");
}

static void map_page(void)
{
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void mprotect_once(int i)
{
	must(mprotect(page, 4096, i & 1 ? PROT_READ : PROT_READ | PROT_EXEC), "mprotect");
}

static void ignore_signal(void)
{
	signal(SIGUSR1, SIG_IGN);
}

static void kill_once(int i)
{
	must(kill(getpid(), SIGUSR1), "kill");
}

static void tkill_once(int i)
{
	must(syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1), "tkill");
}

static void setsid_once(int i)
{
	setsid();
}

static void prctl_once(int i)
{
	must(prctl(PR_SET_NAME, "actions"), "prctl");
}

static void memfd_create_once(int i)
{
	close(memfd_create("actions", 0));
}

static void mount_once(int i)
{
	must(mount("none", directory, "tmpfs", 0, NULL), "mount");
	must(umount(directory), "umount");
}

static void setuid_once(int i)
{
	must(setresuid(-1, -1, -1), "setresuid");
}

static void bpf_once(int i)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };

	close(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static const struct action {
	const char *name;
	void (*once)(int);
	void (*before)(void);
} actions[] = {
	{ "getppid", getppid_once },
	{ "execve", execve_once },
	{ "execve_large", execve_large_once, make_arguments },
	{ "execve_deep", execve_once, go_deep },
	{ "execve_failed", execve_failed_once },
	{ "fork", fork_once },
	{ "connect", connect_once, open_listener },
	{ "connect6", connect6_once, open_listener6 },
	{ "connect_udp", connect_udp_once },
	{ "bind", bind_once },
	{ "dns", dns_once, open_resolver },
	{ "read", read_once, open_zero },
	{ "create_file", create_file_once },
	{ "open", open_once, make_names },
	{ "rename", rename_once, make_names },
	{ "link", link_once, make_names },
	{ "rmdir", rmdir_once },
	{ "ptrace", ptrace_once, start_child },
	{ "mprotect", mprotect_once, map_page },
	{ "kill", kill_once, ignore_signal },
	{ "tkill", tkill_once, ignore_signal },
	{ "setsid", setsid_once },
	{ "prctl", prctl_once },
	{ "memfd_create", memfd_create_once },
	{ "mount", mount_once },
	{ "setuid", setuid_once },
	{ "bpf", bpf_once },
};

static void await_turn(struct timespec *turn, int rate)
{
	turn->tv_nsec += 1000000000 / rate;
	if (turn->tv_nsec >= 1000000000) {
		turn->tv_nsec -= 1000000000;
		turn->tv_sec++;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, turn, NULL);
}

#define PARTS	10

int main(int argc, char **argv)
{
	struct timespec from, to, turn;
	const struct action *action = actions;
	int count, rate;

	/* A group of its own, as a shell gives each job: the bench and its many descriptors are no part of what it measures. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a Ctrl-C does not come to this group */
	if (argc != 4 && argc != 5)
		return 2;
	rate = argc == 5 ? atoi(argv[4]) : 0;
	count = atoi(argv[2]) / PARTS * PARTS;
	directory = argv[3];
	while (action < actions + sizeof(actions) / sizeof(*actions) && strcmp(action->name, argv[1]))
		action++;
	if (action == actions + sizeof(actions) / sizeof(*actions))
		return 2;
	if (action->before)
		action->before();
	clock_gettime(CLOCK_MONOTONIC, &turn);
	for (int i = 0; i < count;) {
		int first = i, last = (i / (count / PARTS) + 1) * (count / PARTS);

		clock_gettime(CLOCK_MONOTONIC, &from);
		for (; i < last; i++) {
			if (rate)
				await_turn(&turn, rate);
			action->once(i);
		}
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("%.3f\n", ((to.tv_sec - from.tv_sec) * 1e9 + to.tv_nsec - from.tv_nsec) / (last - first));
	}
	if (child) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return 0;
}
