#include "closer.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct port *first;  /* the one that is being closed, and those behind it */
	int nothing;         /* /dev/null */
} closing = {.nothing = -1};

/* The number stays taken, so that nobody gets it before the list is without it. */
static void replace(int fd)
{
	dup3(closing.nothing, fd, O_CLOEXEC);
}

static struct port *next(void)
{
	pthread_mutex_lock(&closing.lock);
	while (!closing.first)
		pthread_cond_wait(&closing.filled, &closing.lock);
	struct port *p = closing.first;
	pthread_mutex_unlock(&closing.lock);
	return p;
}

static void done(struct port *p)
{
	pthread_mutex_lock(&closing.lock);
	struct port **at = &closing.first;
	while (*at != p)
		at = &(*at)->buried;
	*at = p->buried;
	close(p->tap);
	close(p->out);
	pthread_mutex_unlock(&closing.lock);
	free(p);
}

static void *close_forever(void *nothing)
{
	for (;;) {
		struct port *p = next();
		if (!port_is_gone(p))
			ioctl(p->tap, TUNSETPERSIST, 0);
		replace(p->tap);
		replace(p->out);
		done(p);
	}
	return nothing;
}

bool closer_start(void)
{
	pthread_t thread;
	pthread_mutex_init(&closing.lock, NULL);
	pthread_cond_init(&closing.filled, NULL);
	closing.first = NULL;
	if (closing.nothing < 0)
		closing.nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	return closing.nothing >= 0 && !pthread_create(&thread, NULL, close_forever, NULL);
}

void closer_take(struct port *p)
{
	pthread_mutex_lock(&closing.lock);
	p->buried = closing.first;
	closing.first = p;
	pthread_cond_signal(&closing.filled);
	pthread_mutex_unlock(&closing.lock);
}

bool closer_is_busy(void)
{
	pthread_mutex_lock(&closing.lock);
	bool busy = closing.first;
	pthread_mutex_unlock(&closing.lock);
	return busy;
}

void closer_lock(void)
{
	pthread_mutex_lock(&closing.lock);
}

void closer_unlock(void)
{
	pthread_mutex_unlock(&closing.lock);
}

void closer_forget(void)
{
	for (struct port *p = closing.first; p; p = p->buried) {
		close(p->tap);
		close(p->out);
	}
	closing.first = NULL;
}
