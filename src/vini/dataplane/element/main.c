/* The link element: holds packets of shaped vifs in user space and sends them on when their time has come.
 *
 * Use on kernels without netem.  One element serves all links of a machine.  For each shaped vif it is
 * handed two descriptors: a TAP, into which a cls_bpf program diverts what leaves by the vif, and a packet
 * socket, by which it goes out after all (packet(7)).
 *
 * Usage: element SOCKET NETNS_DIRECTORY MEMORY_MB      becomes a daemon; exit status 0: it listens.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "port.h"
#include "shared.h"
#include "sibling.h"

const char *socket_path;
char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
int listener_fd, lock_fd, directory_fd;
unsigned memory_mb;

static _Noreturn void fail(const char *doing, const char *what)
{
	fprintf(stderr, "%s %s: %s\n", doing, what, strerror(errno));
	exit(1);
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		fail("listening at", path);
	}
	memcpy(a.sun_path, path, strlen(path));
	socket_path = path;
	snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* one element per socket */
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB))
		fail("locking", lock_path);
	unlink(path);
	umask(0177);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64))
		fail("listening at", path);
	return fd;
}

static int watch_directory(const char *path)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0 || inotify_add_watch(fd, path, IN_DELETE | IN_MOVED_FROM) < 0)
		fail("watching", path);
	return fd;
}

static void allow_descriptors(void)
{
	struct rlimit most;
	if (getrlimit(RLIMIT_NOFILE, &most))
		return;
	most.rlim_cur = most.rlim_max = most.rlim_max > 1 << 20 ? most.rlim_max : 1 << 20;
	if (setrlimit(RLIMIT_NOFILE, &most) && !getrlimit(RLIMIT_NOFILE, &most)) {
		most.rlim_cur = most.rlim_max;
		setrlimit(RLIMIT_NOFILE, &most);
	}
}

static void take_signals(void)
{
	sigset_t term;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL); /* each process reads it from a signalfd */
	signal(SIGCHLD, SIG_IGN); /* a dead sibling leaves nothing behind */
}

int main(int count, char **argument)
{
	if (count != 4 || atoi(argument[3]) <= 0) {
		fprintf(stderr, "usage: element SOCKET NETNS_DIRECTORY MEMORY_MB\n");
		return 2;
	}
	netns_directory = argument[2];
	memory_mb = (unsigned)atoi(argument[3]);
	listener_fd = listen_at(argument[1]);
	directory_fd = watch_directory(netns_directory);
	if (!shared_open())
		fail("mapping memory for", argument[1]);
	if (daemon(0, 0))
		fail("becoming", "a daemon");
	take_signals();
	allow_descriptors();
	keeper_run(-1);
}
