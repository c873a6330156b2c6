/* Lets user-mode Linux 6.1 run on processors with AMX: preloaded into linux.uml.
 *
 * It keeps a process's registers in a buffer that was large enough before AMX.  The machine's kernel takes
 * the extended state only as a whole (ptrace(2), PTRACE_SETREGSET: else EFAULT), so the part that user-mode
 * Linux knows is laid over the whole that the process has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*ptrace_function)(int, pid_t, void *, void *);

static long set_extended_state(ptrace_function real, pid_t pid, const struct iovec *part)
{
	static char whole[65536];
	struct iovec all = {whole, sizeof whole};
	long r = real(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all);
	if (r)
		return r;
	/* The header after the 512 legacy bytes says which parts are present; parts unknown to the caller are not. */
	memcpy(whole, part->iov_base, part->iov_len < all.iov_len ? part->iov_len : all.iov_len);
	unsigned long long present;
	memcpy(&present, whole + 512, sizeof present);
	present &= 0xff;
	memcpy(whole + 512, &present, sizeof present);
	return real(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	ptrace_function real;
	*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
	va_list a;
	va_start(a, request);
	pid_t pid = va_arg(a, pid_t);
	void *address = va_arg(a, void *);
	void *payload = va_arg(a, void *);
	va_end(a);
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
		return set_extended_state(real, pid, payload);
	return real(request, pid, address, payload);
}
