/* The end with a sentence, on standard error: what can't be measured, and why. */
#pragma once

__attribute__((format(printf, 2, 3), noreturn)) void fail(int error, const char *format, ...);
