/* xsk-forwarder: an IP router in user space over AF_XDP sockets, by the kernel's forwarding table.
 *
 * In a topology:  program: {process: "gcc -O2 -o /tmp/f /DIRECTORY/xsk-forwarder.c && exec /tmp/f", af_xdp: true}
 * Packets stay where they came in and leave from there: they are written once by the kernel, and read once by it (on
 * veth, AF_XDP copies).  The kernel's tables are in routes.h, the sockets in xsk.h.  It ends when a link comes or goes;
 * the agent starts it again. */
#define _GNU_SOURCE
#include "routes.h"
#include "xsk.h"

enum { BATCH = 64 };

static struct xsk vifs[VIFS]; /* each beside the one of `outs` */

static unsigned serve(struct xsk *in)
{
	struct xdp_desc got[BATCH];
	unsigned n = xsk_receive(in, got, BATCH);

	for (unsigned i = 0; i < n; i++) {
		struct hop *h = route_packet(&outs[in - vifs], xsk_at(got[i]), got[i].len);

		if (h)
			xsk_send(&vifs[h->out], got[i]);
		else
			xsk_free(got[i]);
	}
	return n;
}

int main(void)
{
	count = xsk_open(vifs, VIFS);
	for (int i = 0; i < count; i++) {
		outs[i].index = vifs[i].index;
		memcpy(outs[i].mac, vifs[i].mac, 6);
	}
	open_tables();
	for (unsigned rounds = 0;; rounds++) {
		unsigned n = 0;

		for (int i = 0; i < count; i++)
			n += serve(&vifs[i]);
		for (int i = 0; n && i < count; i++)
			xsk_push(&vifs[i]);
		if ((!n || rounds % 1024 == 0) && xsk_wait(vifs, count, changes, n ? 0 : -1))
			take_changes();
	}
}
