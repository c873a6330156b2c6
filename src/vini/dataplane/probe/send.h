/* The senders: every frame of every stream at its time.  One thread for the links', one for the control's. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* Sends all, from now on; returns when the last has left, with the time of the beginning (CLOCK_MONOTONIC).
 * In real time, below the link element's priority (10), if that is permitted; for no more than 0.1 s without a pause,
 * after that as any other thread.  The control's thread is the more urgent one of the two, so that it tells how
 * late this machine wakes such a thread, not how much the other has to do. */
int64_t send_all(void);

/* Gives the calling thread one of these priorities. */
enum { RECEIVERS_PRIORITY = 4, SENDERS_PRIORITY, CONTROLS_PRIORITY };
void promote(int priority);

/* How often the permission to run in real time was used up; -1: there was none. */
extern atomic_int demotions;
