/* The receiver: notes every frame of ours that comes out of a link, with the kernel's time of arrival. */
#pragma once

/* A thread's body; runs until `receive_stop` is called, then once more over what is there. */
void *receive_all(void *);
void receive_stop(void);
