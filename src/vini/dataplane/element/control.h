/* What clients say and hear: one line of text per message, answered by one message (docs/explanation/links.md). */
#ifndef CONTROL_H
#define CONTROL_H

void control_open(int listener);

#endif
