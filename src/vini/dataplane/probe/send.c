#include "send.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "fail.h"
#include "stream.h"

enum { MOST_US_WITHOUT_PAUSE = 100000 };

atomic_int demotions;
static int64_t began_ns;
static atomic_bool too_long;

static void on_too_long(int signal)
{
	(void)signal;
	atomic_store(&too_long, true);
}

static void limit_real_time(void)
{
	struct sigaction on = {.sa_handler = on_too_long, .sa_flags = SA_RESTART};
	struct rlimit most = {.rlim_cur = MOST_US_WITHOUT_PAUSE, .rlim_max = RLIM_INFINITY};
	sigaction(SIGXCPU, &on, NULL);
	if (setrlimit(RLIMIT_RTTIME, &most))
		demotions = -1;
}

void promote(int priority)
{
	struct sched_param as = {.sched_priority = priority};
	if (demotions < 0 || pthread_setschedparam(pthread_self(), SCHED_FIFO, &as))
		demotions = -1;
	prctl(PR_SET_TIMERSLACK, 1);
}

static void demote(void)
{
	struct sched_param as = {0};
	pthread_setschedparam(pthread_self(), SCHED_OTHER, &as);
	demotions++;
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t at_ns)
{
	struct timespec t = {at_ns / 1000000000, at_ns % 1000000000};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR && !atomic_load(&too_long))
		;
}

static void send_next(struct stream *s, uint32_t number)
{
	frame_label(s->frame, (struct label){number, s->sent});
	s->sent_at_ns[s->sent++] = now_ns(CLOCK_REALTIME);
	if (send(s->out, s->frame, s->bytes, MSG_DONTWAIT) < 0)
		return; /* a full queue, or a vif that is down: as lost as on the way */
}

/* The stream whose next frame is due first; stream_count: all have been sent. */
static uint32_t first_due(bool control)
{
	uint32_t first = stream_count;
	for (uint32_t i = 0; i < stream_count; i++) {
		struct stream *s = &streams[i];
		if (s->control == control && s->out >= 0 && s->sent < s->count &&
			(first == stream_count || stream_due(s, s->sent) < stream_due(&streams[first], streams[first].sent)))
			first = i;
	}
	return first;
}

static void send_those(bool control)
{
	promote(control ? CONTROLS_PRIORITY : SENDERS_PRIORITY);
	for (uint32_t i; (i = first_due(control)) < stream_count; send_next(&streams[i], i)) {
		int64_t due_ns = began_ns + stream_due(&streams[i], streams[i].sent);
		if (now_ns(CLOCK_MONOTONIC) < due_ns)
			sleep_until(due_ns);
		if (atomic_exchange(&too_long, false))
			demote();
	}
}

static void *send_control(void *nothing)
{
	send_those(true);
	return nothing;
}

int64_t send_all(void)
{
	pthread_t control;
	limit_real_time();
	began_ns = now_ns(CLOCK_MONOTONIC) + 5000000; /* both threads are awake by then */
	if (pthread_create(&control, NULL, send_control, NULL))
		fail(EAGAIN, "A thread can't be started");
	send_those(false);
	pthread_join(control, NULL);
	return began_ns;
}
