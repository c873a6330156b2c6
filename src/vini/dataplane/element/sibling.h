/* The element's two processes: a keeper, which answers, and a worker, which moves packets.  Each starts the other
 * again when it dies; both hold every descriptor, so a death closes nothing. */
#ifndef SIBLING_H
#define SIBLING_H

/* Both: */
extern const char *socket_path;
extern char lock_path[];
extern int listener_fd, lock_fd, directory_fd; /* inherited by whoever keeps */
extern unsigned memory_mb;

/* Become one or the other, with a channel to the sibling; the keeper's -1: it has none yet. */
_Noreturn void keeper_run(int channel);
_Noreturn void worker_run(int channel);

#endif
