#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "closer.h"
#include "control.h"
#include "pace.h"
#include "shared.h"
#include "sibling.h"
#include "watch.h"

#define HUNG_NS 500000000u   /* a worker that shows no life for so long is replaced */
#define TICK_NS 100000000u   /* between two looks at its heartbeat */
#define IDLE_NS 5000000000u  /* without a port and a client: the element ends */

static struct watch channel, tick, rebirth, terminate, directory;
static struct pace workers;
static unsigned clients;
static uint64_t idle_since;

static void worker_lost(void);
static void gone(uint64_t id);
static _Noreturn void end(void);

/* ---- talking to the worker ----------------------------------------------------------------------------- */

static bool take_answer(const struct message *m, uint64_t number)
{
	if (m->verb == GONE)
		gone(m->id);
	else if (m->verb == END)
		end();
	return m->verb == DONE && m->number == number;
}

enum answer { REFUSED, OBEYED, SILENT };

/* Silent: it died, or has to be replaced; its successor takes everything from our list. */
static enum answer wait_answer(uint64_t number)
{
	static struct message m;
	int none[DESCRIPTORS];
	for (uint64_t begin = clock_ns(), now; (now = clock_ns()) < begin + HUNG_NS; ) {
		struct pollfd p = {.fd = channel.fd, .events = POLLIN};
		poll(&p, 1, (int)((begin + HUNG_NS - now) / MILLION) + 1);
		ssize_t n = channel_receive(channel.fd, &m, none);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n != sizeof m)
			return SILENT;
		if (take_answer(&m, number))
			return m.good ? OBEYED : REFUSED;
	}
	return SILENT;
}

static enum answer ask(struct message *m, const int descriptors[DESCRIPTORS])
{
	static uint64_t last;
	m->number = ++last;
	if (channel.fd < 0)
		return SILENT;
	enum answer answer = channel_send(channel.fd, m, descriptors) ? wait_answer(m->number) : SILENT;
	if (answer == SILENT)
		worker_lost();
	return answer;
}

static void channel_ready(struct watch *w, uint32_t events)
{
	static struct message m;
	int none[DESCRIPTORS];
	(void)events;
	ssize_t n = channel_receive(w->fd, &m, none);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof m)
		take_answer(&m, 0);
	else
		worker_lost();
}

/* ---- ports --------------------------------------------------------------------------------------------- */

static bool taken[MAX_PORTS];
static uint64_t last_id;

static uint32_t slot_take(void)
{
	static uint32_t at;
	for (uint32_t i = 0; i < MAX_PORTS; i++) {
		at = (at + 1) % MAX_PORTS;
		if (taken[at])
			continue;
		struct live *live = &shared->live[at];
		*live = (struct live){0};
		if (getrandom(&live->random, sizeof live->random, 0) != sizeof live->random || !live->random.state[0])
			live->random.state[0] = clock_ns();
		taken[at] = true;
		return at;
	}
	return MAX_PORTS;
}

static void slots_learn(void) /* from the list, which we may have from a worker */
{
	memset(taken, 0, sizeof taken);
	for (size_t i = 0; i < ports.count; i++) {
		taken[ports.of[i]->slot] = true;
		last_id = ports.of[i]->id > last_id ? ports.of[i]->id : last_id;
	}
}

/* Its packets are lost, its TAP vanishes, and nothing of ours holds the namespace any more. */
static void drop(struct port *p)
{
	taken[p->slot] = false;
	port_leave(p);
	closer_take(p);
	idle_since = clock_ns();
}

static void gone(uint64_t id)
{
	struct port *p = port_of(id);
	if (p)
		drop(p);
}

static struct message said(const struct port *p, const struct wish *wish)
{
	struct message m = {.verb = SET, .id = p->id, .slot = p->slot, .shape = wish->shape, .trace_begin = p->trace_begin};
	strcpy(m.netns, p->netns);
	strcpy(m.dev, p->dev);
	if (wish->files[TRACE_FILE] != p->files[TRACE_FILE])
		m.trace_begin = clock_ns();
	for (int role = 0; role < ROLES; role++)
		if (wish->files[role])
			m.files[role] = *wish->files[role];
	return m;
}

static enum answer tell(struct port *p, const struct wish *wish, bool is_new)
{
	struct message m = said(p, wish);
	int descriptors[DESCRIPTORS] = {[TAP] = p->tap, [OUT] = p->out};
	m.has_descriptors = is_new;
	for (int role = 0; role < ROLES; role++)
		descriptors[FILE_OF + role] = wish->files[role] ? wish->files[role]->fd : -1;
	/* Ours first: should the worker die of it, or before it, its successor shall have it. */
	p->shape = wish->shape;
	p->trace_begin = m.trace_begin;
	port_take_files(p, wish->files);
	return ask(&m, descriptors);
}

bool keeper_set(struct port *p, const char *netns, const char *dev, const struct wish *wish, int descriptors[2])
{
	bool is_new = !p;
	uint32_t slot = is_new ? slot_take() : 0;
	if (is_new && slot < MAX_PORTS)
		p = port_add(++last_id, slot, netns, dev, descriptors[0], descriptors[1]);
	if (!p) {
		for (int role = 0; role < ROLES; role++)
			series_release(wish->files[role]);
		return false;
	}
	if (is_new)
		descriptors[0] = descriptors[1] = -1;
	uint64_t id = p->id;
	return tell(p, wish, is_new) != REFUSED && port_of(id);
}

void keeper_remove(struct port *p)
{
	struct message m = {.verb = REMOVE, .id = p->id};
	uint64_t id = p->id;
	enum answer answer = ask(&m, NULL);
	p = port_of(id);
	if (!p)
		return;
	drop(p);
	if (answer == SILENT)
		ask(&m, NULL); /* the successor, if there is one already, has it */
}

void keeper_refresh(void)
{
	struct message m = {.verb = REFRESH};
	ask(&m, NULL);
}

/* ---- the worker lives and dies ------------------------------------------------------------------------- */

static void worker_start(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		timer_set(&rebirth, clock_ns() + TICK_NS);
		return;
	}
	closer_lock();
	pid_t child = fork();
	if (!child) {
		closer_forget();
		close(pair[0]);
		watches_leave();
		worker_run(pair[1]);
	}
	closer_unlock();
	close(pair[1]);
	if (child < 0) {
		close(pair[0]);
		timer_set(&rebirth, clock_ns() + TICK_NS);
		return;
	}
	shared->worker = (uint64_t)child;
	watch_add(&channel, pair[0], EPOLLIN, channel_ready, true);
}

/* Packets that it held are lost; those in the TAPs' queues are not. */
static void worker_lost(void)
{
	uint64_t now = clock_ns();
	if (channel.fd < 0)
		return;
	int old = channel.fd;
	watch_remove(&channel);
	close(old);
	if (shared->worker)
		kill((pid_t)shared->worker, SIGKILL);
	shared->worker = 0;
	shared->restarts++;
	uint64_t pause = pace_pause_ns(&workers, now);
	if (pause)
		timer_set(&rebirth, now + pause);
	else
		worker_start();
}

static void rebirth_ready(struct watch *w, uint32_t events)
{
	(void)events;
	if (timer_expired(w) && channel.fd < 0)
		worker_start();
}

/* A look that comes late itself says nothing about the worker. */
static bool is_hung(uint64_t now)
{
	static uint64_t beat, looked, alive;
	bool was_away = now - looked > 2 * TICK_NS;
	looked = now;
	if (beat != shared->heartbeat || channel.fd < 0 || was_away) {
		beat = shared->heartbeat;
		alive = now;
	}
	return now - alive > HUNG_NS;
}

static void tick_ready(struct watch *w, uint32_t events)
{
	uint64_t now = clock_ns();
	(void)events;
	if (!timer_expired(w))
		return;
	timer_set(&tick, now + TICK_NS);
	if (is_hung(now))
		worker_lost();
	if (ports.count || closer_is_busy())
		idle_since = now;
	else if (!clients && now - idle_since > IDLE_NS)
		end(); /* also where an agent asks every second what there is */
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void unlink_files(void)
{
	struct stat ours, there;
	/* Somebody may have deleted them, and started another element at the same place. */
	if (!fstat(lock_fd, &ours) && !stat(lock_path, &there) && ours.st_ino == there.st_ino) {
		unlink(socket_path);
		unlink(lock_path);
	}
}

static _Noreturn void end(void)
{
	struct message m = {.verb = END};
	unlink_files();
	if (channel.fd < 0 || !channel_send(channel.fd, &m, NULL))
		exit(0);
	struct pollfd p = {.fd = channel.fd, .events = POLLRDHUP};
	if (poll(&p, 1, 1000) <= 0 && shared->worker)
		kill((pid_t)shared->worker, SIGKILL);
	exit(0);
}

static void terminate_ready(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;
	(void)events;
	if (read(w->fd, &info, sizeof info) > 0)
		end();
}

void keeper_client(int change)
{
	clients += (unsigned)change;
}

/* ---- namespaces that are deleted by hand --------------------------------------------------------------- */

static void netns_deleted(const char *name)
{
	for (size_t i = ports.count; i-- > 0; )
		if (i < ports.count && !strcmp(ports.of[i]->netns, name) && port_is_gone(ports.of[i]))
			keeper_remove(ports.of[i]);
}

static void directory_ready(struct watch *w, uint32_t events)
{
	_Alignas(struct inotify_event) char buffer[16384];
	ssize_t n = read(w->fd, buffer, sizeof buffer);
	(void)events;
	for (ssize_t at = 0; at < n; ) {
		const struct inotify_event *e = (const struct inotify_event *)(buffer + at);
		if (e->len)
			netns_deleted(e->name);
		at += (ssize_t)(sizeof *e + e->len);
	}
}

/* ---- start --------------------------------------------------------------------------------------------- */

_Noreturn void keeper_run(int to_worker)
{
	sigset_t term;
	prctl(PR_SET_NAME, "element-keeper");
	if (!watches_open() || !closer_start())
		_exit(1);
	slots_learn();
	idle_since = clock_ns();
	channel.fd = -1;
	timer_add(&tick, tick_ready);
	timer_set(&tick, idle_since + TICK_NS);
	timer_add(&rebirth, rebirth_ready);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	watch_add(&terminate, signalfd(-1, &term, SFD_NONBLOCK | SFD_CLOEXEC), EPOLLIN, terminate_ready, true);
	watch_add(&directory, directory_fd, EPOLLIN, directory_ready, false);
	control_open(listener_fd);
	clients = 0;
	if (to_worker >= 0)
		watch_add(&channel, to_worker, EPOLLIN, channel_ready, true);
	else
		worker_start();
	for (;;)
		watches_deliver(watches_wait(-1));
}
