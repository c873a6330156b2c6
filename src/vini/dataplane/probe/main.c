/* Measures what links do to frames: sends numbered ones from vif to vif, and tells when each left and arrived.
 *
 * The plan is the file that is the argument, else standard input; a line each:
 *   stream NETNS DEV PEER_NETNS PEER_DEV START_NS INTERVAL_NS COUNT AHEAD BYTES
 *   drain NS        how long to wait for what is still on its way when the last frame has left
 * An end on another machine has the NETNS "@", and instead of its DEV the address of that vif.  Where the plan is a
 * file we go step by step with whoever measures there: "L" is said when we listen, then a line of standard input
 * begins the sending; "S" when all has left, then a second line ends the measurement.  Without them nothing is told.
 * Standard output, after that, binary, little-endian, all 8-byte words but the arrivals' first two (4 bytes each):
 *   began_ns step_ns demotions; for each stream: sent arrived missed, `sent` times of leaving,
 *   `arrived` times (number, corrupted, time of arrival).
 * `began_ns` is the time to which the plan's times are added; `step_ns` by how much the clock of all times,
 * CLOCK_REALTIME, was set meanwhile; `missed` belongs to the vif and is told with each of its streams.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fail.h"
#include "receive.h"
#include "send.h"
#include "stream.h"

enum { MOST_STREAMS = 4096, WARM_UP_MS = 60 /* the kernel begins to take times a little after it is asked to */ };

void fail(int error, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fprintf(stderr, ": %s.\n", strerror(error));
	exit(1);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* CLOCK_REALTIME less CLOCK_MONOTONIC; the best of some tries, since we may be interrupted between the two. */
static int64_t offset_ns(void)
{
	int64_t best = 0, least = INT64_MAX;
	for (int i = 0; i < 9; i++) {
		int64_t before = clock_ns(CLOCK_MONOTONIC), real = clock_ns(CLOCK_REALTIME);
		int64_t took = clock_ns(CLOCK_MONOTONIC) - before;
		if (took < least) {
			least = took;
			best = real - before - took / 2;
		}
	}
	return best;
}

static void pause_ns(int64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

static int64_t read_plan(FILE *plan)
{
	char line[1024], netns[256], dev[32], peer_netns[256], peer[32];
	int64_t drain_ns = 0;
	streams = calloc(MOST_STREAMS, sizeof *streams);
	ports = calloc(MOST_STREAMS, sizeof *ports);
	if (!streams || !ports)
		fail(ENOMEM, "There is no memory for the plan");
	while (fgets(line, sizeof line, plan)) {
		struct stream s = {0};
		if (sscanf(line, "drain %ld", &drain_ns) == 1)
			continue;
		int n = sscanf(line, "stream %255s %31s %255s %31s %ld %ld %u %u %u", netns, dev, peer_netns, peer, &s.start_ns,
					   &s.interval_ns, &s.count, &s.ahead, &s.bytes);
		if (n != 9 || s.bytes < LEAST_FRAME || s.bytes > MOST_FRAME || !s.count || stream_count == MOST_STREAMS)
			fail(EINVAL, "This line of the plan can't be followed: %s", line);
		streams[stream_count] = s;
		stream_open(&streams[stream_count], stream_count, netns, dev, peer_netns, peer);
		stream_count++;
	}
	return drain_ns;
}

static void tell(int64_t began_ns, int64_t step_ns)
{
	int64_t head[] = {began_ns, step_ns, atomic_load(&demotions)};
	fwrite(head, sizeof head, 1, stdout);
	for (uint32_t i = 0; i < stream_count; i++) {
		struct stream *s = &streams[i];
		int64_t about[] = {s->sent, (int64_t)s->arrived, s->port < 0 ? 0 : ports[s->port].missed};
		fwrite(about, sizeof about, 1, stdout);
		fwrite(s->sent_at_ns, sizeof *s->sent_at_ns, s->sent, stdout);
		fwrite(s->arrivals, sizeof *s->arrivals, s->arrived, stdout);
	}
	if (fflush(stdout))
		fail(errno, "What was measured can't be told");
}

/* Say where we are, and wait until the other machines are there, too. */
static void keep_step(char said)
{
	char line[16];
	putchar(said);
	if (fflush(stdout) || !fgets(line, sizeof line, stdin))
		exit(1); /* whoever measures has gone */
}

int main(int argc, char **argv)
{
	pthread_t receiver;
	FILE *plan = argc > 1 ? fopen(argv[1], "re") : stdin;
	if (!plan)
		fail(errno, "The plan %s can't be read", argv[1]);
	int64_t drain_ns = read_plan(plan);
	if (pthread_create(&receiver, NULL, receive_all, NULL))
		fail(EAGAIN, "A thread can't be started");
	pause_ns(WARM_UP_MS * 1000000LL);
	if (argc > 1)
		keep_step('L');
	int64_t before = offset_ns();
	int64_t began_ns = before + send_all();
	if (argc > 1)
		keep_step('S');
	pause_ns(drain_ns);
	int64_t step_ns = offset_ns() - before;
	receive_stop();
	pthread_join(receiver, NULL);
	tell(began_ns, step_ns);
}
