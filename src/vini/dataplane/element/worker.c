/* The worker: sleeps until a packet comes or departs, and obeys the keeper in between. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agenda.h"
#include "budget.h"
#include "channel.h"
#include "clock.h"
#include "pace.h"
#include "pool.h"
#include "port.h"
#include "shared.h"
#include "sibling.h"
#include "traffic.h"
#include "watch.h"

enum {
	HEARTBEAT_MS = 100,      /* the longest sleep */
	NEAR_NS = 10000,         /* nearer departures are waited for awake where that is not too much: sleeping takes longer */
	SPIN_LEAST_NS = 20000,   /* the window before a departure in which we are awake already... */
	SPIN_MOST_NS = 150000,   /* ...follows how late this machine wakes us */
};

static struct watch channel, timer, rebirth, terminate;
static uint64_t armed; /* when the timer wakes us */
static uint64_t looked; /* when the latest wait ended */
static uint64_t slept;  /* when the latest one that slept began */
static struct pace keepers;
static struct port *graveyard; /* freed once no event of the present batch can name them */

/* ---- ports come and go --------------------------------------------------------------------------------- */

/* The keeper holds the descriptors too, so these calls don't wait for the kernel to close them for good. */
static void forget(struct port *p)
{
	traffic_stop(p);
	port_leave(p);
	close(p->tap);
	close(p->out);
	p->buried = graveyard;
	graveyard = p;
}

static void gone(struct port *p)
{
	struct message m = {.verb = GONE, .id = p->id};
	if (channel.fd >= 0)
		channel_send(channel.fd, &m, NULL);
	forget(p);
}

static void bury(void)
{
	while (graveyard) {
		struct port *p = graveyard;
		graveyard = p->buried;
		free(p);
	}
}

/* The message's files, each used once more; takes the descriptors of those that are new.  False: no memory. */
static bool adopt_files(const struct message *m, int descriptors[DESCRIPTORS], struct series *files[ROLES])
{
	for (int role = 0; role < ROLES; role++) {
		uint64_t id = m->files[role].id;
		int *fd = &descriptors[FILE_OF + role];
		files[role] = id ? series_find(id) : NULL;
		if (id && !files[role] && *fd >= 0) {
			files[role] = series_adopt(&m->files[role], *fd);
			*fd = files[role] ? -1 : *fd;
		}
		if (id && !files[role])
			return false;
		series_use(files[role]);
	}
	return true;
}

static struct port *new_port(const struct message *m, int descriptors[DESCRIPTORS])
{
	if (!m->has_descriptors || !agenda_has_room())
		return NULL;
	struct port *p = port_add(m->id, m->slot, m->netns, m->dev, descriptors[TAP], descriptors[OUT]);
	if (p) {
		descriptors[TAP] = descriptors[OUT] = -1;
		p->shape = m->shape;
		traffic_start(p);
	}
	return p;
}

static bool do_set(const struct message *m, int descriptors[DESCRIPTORS])
{
	struct series *files[ROLES] = {0};
	if (adopt_files(m, descriptors, files)) {
		struct port *p = port_of(m->id);
		p = p ? p : new_port(m, descriptors);
		if (p) {
			traffic_change(p, &m->shape, files, m->trace_begin);
			return true;
		}
	}
	for (int role = 0; role < ROLES; role++)
		series_release(files[role]);
	return false;
}

static bool do_remove(const struct message *m)
{
	struct port *p = port_of(m->id);
	if (p)
		forget(p);
	return p;
}

static bool do_refresh(void)
{
	uint64_t now = clock_ns();
	for (size_t i = 0; i < ports.count; i++)
		line_advance(&ports.of[i]->line, now);
	shared->free_cells = pool.free_count;
	return true;
}

static void keeper_lost(void);

static void channel_ready(struct watch *w, uint32_t events)
{
	static struct message m;
	int descriptors[DESCRIPTORS];
	ssize_t n = channel_receive(w->fd, &m, descriptors);
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof m) {
		keeper_lost();
		return;
	}
	if (m.verb == END)
		_exit(0);
	struct message answer = {.verb = DONE, .number = m.number};
	answer.good = m.verb == SET ? do_set(&m, descriptors) : m.verb == REMOVE ? do_remove(&m) : do_refresh();
	for (int i = 0; i < DESCRIPTORS; i++)
		if (descriptors[i] >= 0)
			close(descriptors[i]);
	channel_send(w->fd, &answer, NULL);
}

/* ---- the keeper dies ----------------------------------------------------------------------------------- */

static void keeper_start(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		keeper_lost();
		return;
	}
	pid_t child = fork();
	if (!child) {
		close(pair[0]);
		watches_leave();
		bury();
		keeper_run(pair[1]);
	}
	close(pair[1]);
	if (child < 0) {
		close(pair[0]);
		keeper_lost();
		return;
	}
	watch_add(&channel, pair[0], EPOLLIN, channel_ready, true);
}

static void keeper_lost(void)
{
	uint64_t now = clock_ns();
	if (channel.fd >= 0) {
		int old = channel.fd;
		watch_remove(&channel);
		close(old);
	}
	shared->keeper_restarts++;
	timer_set(&rebirth, now + pace_pause_ns(&keepers, now) + 1);
}

static void rebirth_ready(struct watch *w, uint32_t events)
{
	(void)events;
	if (timer_expired(w) && channel.fd < 0)
		keeper_start();
}

static void terminate_ready(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;
	struct message m = {.verb = END};
	(void)events;
	if (read(w->fd, &info, sizeof info) > 0 && channel.fd >= 0)
		channel_send(channel.fd, &m, NULL);
}

/* ---- the loop ------------------------------------------------------------------------------------------ */

/* How late this machine wakes us: mean and mean deviation. */
static struct {
	uint64_t mean, deviation;
} lateness = {.mean = 15000, .deviation = 5000};

static void learn_lateness(uint64_t late)
{
	late = late < SPIN_MOST_NS ? late : SPIN_MOST_NS;
	uint64_t off = late > lateness.mean ? late - lateness.mean : lateness.mean - late;
	lateness.mean += late / 32;
	lateness.mean -= lateness.mean / 32;
	lateness.deviation += off / 32;
	lateness.deviation -= lateness.deviation / 32;
}

static uint64_t spin_window(void)
{
	if (!budget_may_spin())
		return budget_is_even() ? NEAR_NS : 0;
	uint64_t window = lateness.mean + 3 * lateness.deviation;
	return window < SPIN_LEAST_NS ? SPIN_LEAST_NS : window > SPIN_MOST_NS ? SPIN_MOST_NS : window;
}

static void timer_ready(struct watch *w, uint32_t events)
{
	(void)events;
	timer_expired(w); /* the round's end looks what is due */
}

/* Wait for events; what the wait tells of this round. */
static int wait_for(uint64_t due, uint64_t begin)
{
	uint64_t window = spin_window();
	bool is_near = due != NEVER && due < begin + window;
	uint64_t wake = is_near || due == NEVER ? NEVER : due - window;
	if (!is_near && wake != armed) {
		timer_set(&timer, wake);
		armed = wake;
	}
	int n = watches_wait(is_near ? 0 : HEARTBEAT_MS);
	uint64_t now = clock_ns();
	round_now = (struct round){.looked = is_near ? looked : arrivals_looked(looked, begin, wake, now)};
	looked = now;
	slept = !is_near && arrivals_slept(begin, now) ? begin : slept;
	round_now.slept = slept;
	if (is_near) {
		budget_spend(now, now - begin, now - begin);
		round_now.is_stalled = now - begin > LATE_NS;
		return n;
	}
	if (wake <= now) {
		learn_lateness(now - wake);
		round_now.is_stalled = now - wake > LATE_NS;
		armed = NEVER;
	}
	return n;
}

/* A timerfd, not the time-out of epoll_wait(2): the latter may be late by 0.1 % of the time to wait. */
static _Noreturn void loop(void)
{
	uint64_t since = clock_ns();
	for (;;) {
		traffic_depart();
		struct port *first = agenda_first();
		uint64_t begin = clock_ns();
		budget_spend(begin, begin - since, 0);
		int n = wait_for(first ? first->due : NEVER, begin);
		since = clock_ns();
		shared->heartbeat++;
		watches_deliver(n);
		bury();
		shared->free_cells = pool.free_count;
	}
}

/* ---- start --------------------------------------------------------------------------------------------- */

static void start_ports(void)
{
	for (size_t i = 0; i < ports.count; i++)
		traffic_start(ports.of[i]);
	traffic_recheck();
}

_Noreturn void worker_run(int to_keeper)
{
	sigset_t term;
	prctl(PR_SET_TIMERSLACK, 1);
	prctl(PR_SET_NAME, "element-worker");
	mlockall(MCL_CURRENT | MCL_ONFAULT); /* before the pool, which may be larger than what may be locked */
	if (!pool_open(memory_mb) || !watches_open() || !agenda_has_room())
		_exit(1);
	shared->cells = pool.size;
	shared->worker = (uint64_t)getpid();
	agenda_clear(); /* we may descend from another worker */
	graveyard = NULL;
	armed = NEVER;
	traffic_gone = gone;
	traffic_open();
	timer_add(&timer, timer_ready);
	timer_add(&rebirth, rebirth_ready);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	watch_add(&terminate, signalfd(-1, &term, SFD_NONBLOCK | SFD_CLOEXEC), EPOLLIN, terminate_ready, true);
	watch_add(&channel, to_keeper, EPOLLIN, channel_ready, true);
	start_ports();
	budget_open(); /* of this thread, which is the only one */
	loop();
}
