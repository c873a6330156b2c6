#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper.h"
#include "port.h"
#include "shared.h"
#include "watch.h"

enum {
	LINE = 8192,             /* bytes of a request */
	MESSAGE = 65536,         /* bytes of an answer */
	PAGE = MESSAGE - LINE,   /* no further port in an answer that is longer than that */
};

struct answer {
	char text[MESSAGE];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void say(struct answer *a, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(a->text + a->length, sizeof a->text - a->length, format, arguments);
	va_end(arguments);
	if (n > 0)
		a->length += (size_t)n < sizeof a->text - a->length ? (size_t)n : sizeof a->text - a->length - 1;
}

/* ---- set, remove --------------------------------------------------------------------------------------- */

/* A file's setting, "trace=/path" or "trace=-".  False: `a` says why not. */
static bool set_file(struct wish *wish, enum series_role role, const char *path, struct answer *a)
{
	char why[512];
	struct series *s = NULL;
	if (strcmp(path, "-") && !(s = series_load(path, role, why, sizeof why))) {
		say(a, "error %s\n", why);
		return false;
	}
	series_release(wish->files[role]);
	wish->files[role] = s;
	return true;
}

static bool set_word(struct wish *wish, const char *word, struct answer *a)
{
	for (int role = 0; role < ROLES; role++) {
		size_t n = strlen(series_names[role]);
		if (!strncmp(word, series_names[role], n) && word[n] == '=')
			return set_file(wish, role, word + n + 1, a);
	}
	if (shape_set(&wish->shape, word))
		return true;
	say(a, "error don't understand '%s'\n", word);
	return false;
}

/* What the words wish, beginning with what the port has.  False: `a` says why not, and nothing is used. */
static bool read_wish(const struct port *p, char **rest, struct wish *wish, struct answer *a)
{
	shape_default(&wish->shape);
	if (p)
		wish->shape = p->shape;
	for (int role = 0; role < ROLES; role++) {
		wish->files[role] = p ? p->files[role] : NULL;
		series_use(wish->files[role]);
	}
	for (char *word; (word = strtok_r(NULL, " \n", rest)); )
		if (!set_word(wish, word, a)) {
			for (int role = 0; role < ROLES; role++)
				series_release(wish->files[role]);
			return false;
		}
	return true;
}

/* set NETNS DEV name=value ...   with two descriptors, TAP and packet socket: a new port. */
static void do_set(char *netns, char *dev, char **rest, int fd[2], struct answer *a)
{
	struct port *p = port_find(netns, dev);
	struct wish wish;
	if (!p && fd[1] < 0) {
		say(a, "error no such port; a new one needs its two descriptors\n");
		return;
	}
	bool is_new = fd[1] >= 0;
	if (!read_wish(is_new ? NULL : p, rest, &wish, a))
		return;
	if (p && is_new)
		keeper_remove(p);
	bool good = keeper_set(is_new ? NULL : p, netns, dev, &wish, fd);
	say(a, good ? "ok\n" : "error the port can't be had: its vif is gone, or memory is short\n");
}

static void do_remove(const char *netns, const char *dev, struct answer *a)
{
	struct port *p = port_find(netns, dev);
	if (p)
		keeper_remove(p);
	say(a, p ? "ok removed\n" : "ok absent\n");
}

/* count NETNS DEV NUMBER: so many packets have been counted by the loss list; the next one has the number after it. */
static void do_count(const char *netns, const char *dev, const char *number, struct answer *a)
{
	struct port *p = port_find(netns, dev);
	char *end = NULL;
	uint64_t counted = number ? strtoull(number, &end, 10) : 0;
	if (!p || !number || end == number || *end) {
		say(a, p ? "error count needs a number\n" : "error no such port\n");
		return;
	}
	__atomic_store_n(&shared->live[p->slot].arrived, counted, __ATOMIC_RELAXED);
	say(a, "ok\n");
}

/* ---- list, stats --------------------------------------------------------------------------------------- */

static void say_settings(struct answer *a, const struct port *p)
{
	for (const struct field *f = shape_fields; f->name; f++)
		say(a, " %s=%" PRIu64, f->name, shape_get(&p->shape, f));
	for (int role = 0; role < ROLES; role++)
		say(a, " %s=%s", series_names[role], p->files[role] ? p->files[role]->path : "-");
}

static void say_counts(struct answer *a, const struct port *p)
{
	const struct live *n = &shared->live[p->slot];
	say(a, " received=%" PRIu64 " sent=%" PRIu64 " lost=%" PRIu64 " dropped=%" PRIu64, n->received, n->sent, n->lost,
	    n->dropped);
	say(a, " refused=%" PRIu64 " late=%" PRIu64, n->refused, n->late);
	say(a, " waiting=%" PRIu64 " duplicated=%" PRIu64 " corrupted=%" PRIu64 " reordered=%" PRIu64, n->waiting,
	    n->duplicated, n->corrupted, n->reordered);
	say(a, " managed=%" PRIu64 " marked=%" PRIu64 " stalled=%" PRIu64, n->managed, n->marked, n->stalled);
	say(a, " counted=%" PRIu64, __atomic_load_n(&n->arrived, __ATOMIC_RELAXED));
	say(a, " began=%" PRIu64, p->files[TRACE_FILE] ? p->trace_begin : 0);
}

/* list FROM, stats FROM: ports from that place on; `next=0` says that these were the last. */
static void do_show(const char *from, void (*show)(struct answer *, const struct port *), struct answer *a)
{
	static struct answer body;
	size_t i = from ? strtoul(from, NULL, 10) : 0;
	body.length = 0;
	keeper_refresh();
	for (; i < ports.count && body.length < PAGE - LINE; i++) {
		say(&body, "%s %s", ports.of[i]->netns, ports.of[i]->dev);
		show(&body, ports.of[i]);
		say(&body, "\n");
	}
	say(a, "ok next=%zu pid=%d worker=%" PRIu64, i < ports.count ? i : 0, getpid(), shared->worker);
	say(a, " realtime=%" PRIu64 " throttled=%" PRIu64, shared->realtime, shared->throttled);
	say(a, " restarts=%" PRIu64 " keeper_restarts=%" PRIu64, shared->restarts, shared->keeper_restarts);
	say(a, " free_cells=%" PRIu64 " cells=%" PRIu64 "\n", shared->free_cells, shared->cells);
	memcpy(a->text + a->length, body.text, body.length);
	a->length += body.length;
}

static void obey(char *line, int fd[2], struct answer *a)
{
	char *rest, *verb = strtok_r(line, " \n", &rest);
	char *first = strtok_r(NULL, " \n", &rest);
	if (verb && !strcmp(verb, "list")) {
		do_show(first, say_settings, a);
		return;
	}
	if (verb && !strcmp(verb, "stats")) {
		do_show(first, say_counts, a);
		return;
	}
	char *dev = first ? strtok_r(NULL, " \n", &rest) : NULL;
	bool fits = dev && strlen(first) < sizeof(((struct port *)0)->netns) && strlen(dev) < sizeof(((struct port *)0)->dev);
	if (fits && !strcmp(verb, "set"))
		do_set(first, dev, &rest, fd, a);
	else if (fits && !strcmp(verb, "remove"))
		do_remove(first, dev, a);
	else if (fits && !strcmp(verb, "count"))
		do_count(first, dev, strtok_r(NULL, " \n", &rest), a);
	else
		say(a, "error the words are: set NETNS DEV name=value ..., remove NETNS DEV, count NETNS DEV NUMBER, list [FROM],"
		       " stats [FROM]\n");
}

/* ---- clients ------------------------------------------------------------------------------------------- */

static ssize_t receive(int socket, char *line, size_t size, int fd[2])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec part = {line, size - 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	line[n > 0 ? n : 0] = 0;
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fd, CMSG_DATA(c), (count < 2 ? count : 2) * sizeof(int));
	}
	return n;
}

static void drop_descriptors(int fd[2])
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static void client_ready(struct watch *w, uint32_t events)
{
	static struct answer a;
	static char line[LINE];
	int fd[2] = {-1, -1}, socket = w->fd;
	(void)events;
	a.length = 0;
	ssize_t n = receive(socket, line, sizeof line, fd);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		obey(line, fd, &a);
		drop_descriptors(fd);
		if (send(socket, a.text, a.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
	}
	watch_remove(w);
	close(socket);
	free(w);
	keeper_client(-1);
}

static void listener_ready(struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct watch *client = fd < 0 ? NULL : calloc(1, sizeof *client);
	(void)events;
	if (client) {
		watch_add(client, fd, EPOLLIN, client_ready, true);
		keeper_client(1);
	} else if (fd >= 0) {
		close(fd);
	}
}

void control_open(int listener)
{
	static struct watch w;
	watch_add(&w, listener, EPOLLIN, listener_ready, false);
}
