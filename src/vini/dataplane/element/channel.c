#include "channel.h"

#include <string.h>
#include <sys/socket.h>

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
};

static bool carries(const struct message *m, int place)
{
	return place < FILE_OF ? m->has_descriptors : m->files[place - FILE_OF].id != 0;
}

bool channel_send(int fd, const struct message *m, const int descriptors[DESCRIPTORS])
{
	union control control = {0};
	struct iovec part = {(void *)(uintptr_t)m, sizeof *m};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};
	int sent[DESCRIPTORS];
	size_t count = 0;
	for (int place = 0; descriptors && place < DESCRIPTORS; place++)
		if (carries(m, place))
			sent[count++] = descriptors[place];
	if (count) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		*c = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), sent, count * sizeof(int));
	}
	return sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof *m;
}

ssize_t channel_receive(int fd, struct message *m, int descriptors[DESCRIPTORS])
{
	union control control;
	struct iovec part = {m, sizeof *m};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = n == sizeof *m ? CMSG_FIRSTHDR(&h) : NULL;
	const unsigned char *next = c ? CMSG_DATA(c) : NULL, *end = c ? (unsigned char *)c + c->cmsg_len : NULL;
	for (int place = 0; place < DESCRIPTORS; place++) {
		descriptors[place] = -1;
		if (next == end || !carries(m, place))
			continue;
		memcpy(&descriptors[place], next, sizeof(int));
		next += sizeof(int);
	}
	return n;
}
