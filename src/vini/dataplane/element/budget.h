/* How much of a processor the worker may take from all others by its real-time priority.
 *
 * Of each 100 ms it is awake at real-time priority for at most 92; for what is left it is a process like others
 * (SCHED_OTHER), which still runs where nobody else wants to.  So a core is never starved, and the kernel's own limit
 * (sched_rt_runtime_us, 95 % of a second; since Linux 6.12 the fair server's 5 %) is never reached: that one would
 * stop the worker for 50 ms at a time.
 *
 * Waiting awake for a packet's time makes its departure punctual. At most 30 ms go into that, fewer beside much work
 * (what was work in the last period is kept free for work), and none where more than 60 % of the present period was
 * spent awake: on a full machine that takes from those who make and receive the packets, and a virtual machine that
 * uses all it may is stopped by its host, for 10 ms at a time.
 */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdbool.h>
#include <stdint.h>

void budget_open(void);                          /* ask for real-time priority; `shared` tells whether we have it */
void budget_spend(uint64_t now, uint64_t awake_ns, uint64_t spun_ns);
bool budget_may_spin(void); /* for as long as waking up may take */
bool budget_is_even(void);  /* awake for so little of the present period that a moment may be waited for awake */

#endif
