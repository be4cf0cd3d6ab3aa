/* Faults on demand, for LD_PRELOAD: the N-th system call of a program that writes, or its N-th allocation, goes wrong.
 *
 *     FAULT=call:HOW:N      HOW: kill (kill -9 before the call), half (writes half, then kill -9), short (writes half and says so),
 *                           EIO, ENOSPC (this call), full (ENOSPC from this call on), stop (SIGSTOP before the call), TERM, INT, HUP
 *                           (that signal before the call, which is made once it has been taken), again (SIGTERM twice)
 *     FAULT=memory:HOW:N    HOW: once (this allocation fails), on (this and all after it). Of the program, the C library and libraries in C
 *     FAULT=library:HOW:N   the same of libraries in C++ and of OpenMP's, which do not say to a caller that they have no memory
 *     FAULT_LOG=FILE        where to say what was done: with N = 0 a line a call, or of allocations their number and a line each, with
 *                           a number for how it came about (the same calls, the same number); otherwise the fault
 *
 * System calls are trapped by a seccomp filter and made by the handler of its signal: what stdio, LMDB and the C library itself
 * write is met, too, which overriding functions would not. Counted is what changes a file or a folder: of a descriptor that is a
 * regular file or was opened for writing, and never standard error. Processes started by the program would die of the filter.
 * Allocations are the C library's functions, mmap as the program or a library calls it, and pthread_create.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the handler knows the registers of x86-64 only"
#endif

enum how { NONE, KILL, HALF, SHORT, FAIL, FULL, STOP, ASK, AGAIN, ONCE, ON };

static enum { OFF, CALL, MEMORY, LIBRARY } what;
static enum how how;
static int number, log_fd = -1;              /* of the error, of the signal */
static long at;
static atomic_long count;
static atomic_bool did;      /* one was done */

/* ---- a system call that the filter lets pass ---- */

long kf_fault_syscall(long nr, ...);
extern char kf_fault_after[];
__asm__(".text\n.globl kf_fault_syscall\n.hidden kf_fault_syscall\n.hidden kf_fault_after\n"
	"kf_fault_syscall:\n\tmov %rdi, %rax\n\tmov %rsi, %rdi\n\tmov %rdx, %rsi\n\tmov %rcx, %rdx\n\tmov %r8, %r10\n"
	"\tmov %r9, %r8\n\tmov 8(%rsp), %r9\n\tsyscall\nkf_fault_after:\n\tret\n");

static void say(const char *text)
{
	if (log_fd >= 0) kf_fault_syscall(SYS_write, (long)log_fd, text, strlen(text));
}

static void die(void)
{
	kf_fault_syscall(SYS_kill, kf_fault_syscall(SYS_getpid), (long)SIGKILL);
	for (;;) kf_fault_syscall(SYS_pause);
}

/* The signal that is asked for, and until it is taken: by the thread that waits for it, if the program has one, or else it ends here. */
static void ask(void)
{
	const struct timespec moment = { .tv_nsec = 20000000 };   /* what that thread does with it takes less */
	sigset_t pending;

	kf_fault_syscall(SYS_kill, kf_fault_syscall(SYS_getpid), (long)number);
	do kf_fault_syscall(SYS_nanosleep, &moment, NULL);
	while (sigpending(&pending) == 0 && sigismember(&pending, number));
}

/* ---- calls ---- */

/* kind: w writes, s takes space otherwise, x neither. where: the argument that is a descriptor, or -1: it has names. */
static const struct call { int nr; const char *name; char kind; int where; } calls[] = {
	{ SYS_write, "write", 'w', 0 }, { SYS_pwrite64, "pwrite", 'w', 0 }, { SYS_writev, "writev", 'w', 0 },
	{ SYS_pwritev, "pwritev", 'w', 0 }, { SYS_pwritev2, "pwritev2", 'w', 0 },
	{ SYS_open, "open", 's', -1 }, { SYS_openat, "open", 's', -1 }, { SYS_creat, "open", 's', -1 },
	{ SYS_mkdir, "mkdir", 's', -1 }, { SYS_mkdirat, "mkdir", 's', -1 }, { SYS_fallocate, "fallocate", 's', 0 },
	{ SYS_fsync, "fsync", 's', 0 }, { SYS_fdatasync, "fdatasync", 's', 0 }, { SYS_msync, "msync", 's', -1 },
	{ SYS_rename, "rename", 's', -1 }, { SYS_renameat, "rename", 's', -1 }, { SYS_renameat2, "rename", 's', -1 },
	{ SYS_ftruncate, "ftruncate", 'x', 0 }, { SYS_truncate, "truncate", 'x', -1 }, { SYS_close, "close", 'x', 0 },
	{ SYS_unlink, "unlink", 'x', -1 }, { SYS_unlinkat, "unlink", 'x', -1 }, { SYS_rmdir, "rmdir", 'x', -1 },
	{ SYS_utimensat, "utimensat", 'x', -1 }, { SYS_link, "link", 's', -1 }, { SYS_linkat, "link", 's', -1 },
	{ SYS_symlink, "symlink", 's', -1 }, { SYS_symlinkat, "symlink", 's', -1 },
};
#define CALLS (sizeof calls / sizeof *calls)

/* Whether this call changes something that is kept. */
static bool counts(const struct call *c, const long a[6])
{
	struct stat st;
	long flags = 0;

	if (c->nr == SYS_open || c->nr == SYS_openat) {
		flags = c->nr == SYS_open ? a[1] : a[2];
		return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
	}
	if (c->where < 0) return true;
	if (a[0] == 2 || a[0] == log_fd || kf_fault_syscall(SYS_fstat, a[0], &st) < 0) return false;
	if (c->nr == SYS_fsync || c->nr == SYS_fdatasync) return true;
	return S_ISREG(st.st_mode) && ((flags = kf_fault_syscall(SYS_fcntl, a[0], (long)F_GETFL)) & O_ACCMODE) != O_RDONLY;
}

static long pass(const struct call *c, const long a[6])
{
	return kf_fault_syscall(c->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* A write of the first half, at least a byte; one of a single byte is done whole. */
static long write_half(const struct call *c, const long a[6])
{
	struct iovec v[64];
	const struct iovec *from = (const struct iovec *)a[1];
	long b[6];
	size_t all = 0, half;
	int n = 0;

	memcpy(b, a, sizeof b);
	if (c->nr == SYS_write || c->nr == SYS_pwrite64) {
		if (a[2] > 1) b[2] = a[2] / 2;
		return pass(c, b);
	}
	for (long i = 0; i < a[2]; i++) all += from[i].iov_len;
	half = all > 1 ? all / 2 : all;
	for (; half && n < 64 && n < a[2]; n++) {
		v[n] = from[n];
		if (v[n].iov_len > half) v[n].iov_len = half;
		half -= v[n].iov_len;
	}
	b[1] = (long)v;
	b[2] = n;
	return pass(c, b);
}

/* Whether HOW can happen to such a call. */
static bool possible(const struct call *c, const long a[6])
{
	if (how == KILL || how == STOP || how == ASK || how == AGAIN) return true;
	if (how == HALF || how == SHORT) return c->kind == 'w';
	if (number != ENOSPC) return true;
	if (c->nr == SYS_open) return (a[1] & O_CREAT) != 0;
	if (c->nr == SYS_openat) return (a[2] & O_CREAT) != 0;
	return c->kind != 'x';
}

static long faulty(const struct call *c, const long a[6])
{
	long r;

	switch (how) {
	case KILL: die(); break;
	case HALF: write_half(c, a); die(); break;
	case SHORT: return write_half(c, a);
	case STOP: kf_fault_syscall(SYS_kill, kf_fault_syscall(SYS_getpid), (long)SIGSTOP); return pass(c, a);
	case AGAIN: ask(); /* fall through */
	case ASK: ask(); return pass(c, a);
	default: break;
	}
	if (c->nr == SYS_close && (r = pass(c, a)) < 0) return r;    /* the descriptor is gone all the same */
	return -number;
}

static void report(const struct call *c, long n, bool done)
{
	char line[96];

	snprintf(line, sizeof line, "%ld %s %c%s\n", n, c->name, c->kind, at ? done ? " fault" : " impossible" : "");
	say(line);
}

static void on_call(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
	const long a[6] = { reg[REG_RDI], reg[REG_RSI], reg[REG_RDX], reg[REG_R10], reg[REG_R8], reg[REG_R9] };
	const struct call *c = calls;
	long n, result;
	bool hit, can;

	(void)sig;
	while (c->nr != info->si_syscall) c++;
	if (!counts(c, a)) {
		reg[REG_RAX] = pass(c, a);
		return;
	}
	n = atomic_fetch_add(&count, 1) + 1;
	hit = at && (n == at || (how == FULL && n > at));
	can = hit && possible(c, a);
	if (!at || n == at || (can && !atomic_exchange(&did, true))) report(c, n, can);
	result = can ? faulty(c, a) : pass(c, a);
	reg[REG_RAX] = result;
}

static void trap_calls(void)
{
	struct sigaction act = { .sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART };
	struct sock_filter f[8 + CALLS];
	struct sock_fprog prog = { .filter = f };
	const uint64_t ip = (uint64_t)(uintptr_t)kf_fault_after;
	unsigned short n = 0;

	/* from the handler: as it stands */
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)ip, 0, 3);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(ip >> 32), 0, 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < CALLS; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].nr, (uint8_t)(CALLS - i), 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	prog.len = n;
	if (sigaction(SIGSYS, &act, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0) {
		say("cannot trap\n");
		_exit(99);
	}
}

/* ---- allocations ---- */

/* Where those libraries are. */
static struct { uintptr_t from, to; } foreign[64];
static int n_foreign;

static int note_library(struct dl_phdr_info *lib, size_t size, void *arg)
{
	static const char *const names[] = { "libstdc++", "libdnnl", "libsentencepiece", "libprotobuf", "libgomp", "libabsl", "libtbb" };

	(void)size;
	(void)arg;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		for (int k = 0; strstr(lib->dlpi_name, names[i]) && k < lib->dlpi_phnum && n_foreign < 64; k++)
			if (lib->dlpi_phdr[k].p_type == PT_LOAD && (lib->dlpi_phdr[k].p_flags & PF_X)) {
				foreign[n_foreign].from = lib->dlpi_addr + lib->dlpi_phdr[k].p_vaddr;
				foreign[n_foreign].to = foreign[n_foreign].from + lib->dlpi_phdr[k].p_memsz;
				n_foreign++;
			}
	return 0;
}

static bool is_foreign(const void *caller)
{
	for (int i = 0; i < n_foreign; i++)
		if ((uintptr_t)caller >= foreign[i].from && (uintptr_t)caller < foreign[i].to) return true;
	return false;
}

/* Of allocations that are counted: how each came about. */
#define SITES (1 << 17)
static uint32_t site[SITES];

static void note_site(long n)
{
	void *frame[48];
	uint32_t h = 2166136261u;
	int depth = backtrace(frame, 48);

	for (int i = 0; i < depth; i++) h = (h ^ (uint32_t)((uintptr_t)frame[i] ^ (uintptr_t)frame[i] >> 32)) * 16777619u;
	if (n <= SITES) site[n - 1] = h;
}

/* Whether this one fails; says where it comes from. */
static bool denied(const char *name, size_t size, const void *caller)
{
	void *frame[48];
	char line[96];
	long n;

	if ((what != MEMORY && what != LIBRARY) || is_foreign(caller) != (what == LIBRARY)) return false;
	n = atomic_fetch_add(&count, 1) + 1;
	if (!at && what == MEMORY) note_site(n);
	if (!at || n < at || (n > at && how == ONCE)) return false;
	if (n == at && log_fd >= 0) {
		snprintf(line, sizeof line, "%ld %s %zu fault\n", n, name, size);
		say(line);
		backtrace_symbols_fd(frame, backtrace(frame, 48), log_fd);
	}
	errno = ENOMEM;
	return true;
}

#define DENIED(name, size) denied(name, size, __builtin_return_address(0))

/* The next in line: the C library's, or a sanitizer's. Looking for them allocates. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
static void *(*next_malloc)(size_t), *(*next_calloc)(size_t, size_t), *(*next_realloc)(void *, size_t),
	*(*next_memalign)(size_t, size_t);
static int (*next_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static bool looking;

static void look(void)
{
	looking = true;
	*(void **)&next_memalign = dlsym(RTLD_NEXT, "memalign");
	*(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&next_calloc = dlsym(RTLD_NEXT, "calloc");
	*(void **)&next_pthread_create = dlsym(RTLD_NEXT, "pthread_create");
	*(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
	looking = false;
}

static bool found(void)
{
	if (!next_malloc && !looking) look();
	return next_malloc != NULL;
}

void *malloc(size_t n)
{
	if (DENIED("malloc", n)) return NULL;
	return found() ? next_malloc(n) : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	if (DENIED("calloc", n * size)) return NULL;
	return found() ? next_calloc(n, size) : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	if (DENIED("realloc", n)) return NULL;
	return found() ? next_realloc(p, n) : __libc_realloc(p, n);
}

static void *aligned(size_t align, size_t n)
{
	return found() ? next_memalign(align, n) : __libc_memalign(align, n);
}

void *memalign(size_t align, size_t n) { return DENIED("memalign", n) ? NULL : aligned(align, n); }
void *aligned_alloc(size_t align, size_t n) { return DENIED("aligned_alloc", n) ? NULL : aligned(align, n); }

int posix_memalign(void **p, size_t align, size_t n)
{
	void *got = DENIED("posix_memalign", n) ? NULL : aligned(align, n);

	if (!got) return ENOMEM;
	*p = got;
	return 0;
}

void *mmap(void *addr, size_t n, int prot, int flags, int fd, off_t off)
{
	long r = DENIED("mmap", n) ? -ENOMEM : kf_fault_syscall(SYS_mmap, addr, n, (long)prot, (long)flags, (long)fd, off);

	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return MAP_FAILED;
	}
	return (void *)r;
}

void *mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off) __attribute__((alias("mmap")));

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return DENIED("pthread_create", 0) ? EAGAIN : next_pthread_create(t, attr, fn, arg);
}

/* ---- beginning and end ---- */

__attribute__((constructor)) static void begin(void)
{
	static const struct { const char *name; enum how how; int number; } hows[] = {
		{ "kill", KILL, 0 }, { "half", HALF, 0 }, { "short", SHORT, 0 }, { "EIO", FAIL, EIO }, { "ENOSPC", FAIL, ENOSPC },
		{ "full", FULL, ENOSPC }, { "stop", STOP, 0 }, { "TERM", ASK, SIGTERM }, { "INT", ASK, SIGINT }, { "HUP", ASK, SIGHUP },
		{ "again", AGAIN, SIGTERM }, { "once", ONCE, 0 }, { "on", ON, 0 },
	};
	const char *text = getenv("FAULT"), *file = getenv("FAULT_LOG");
	char kind[16] = "", word[16] = "";
	void *frame[1];
	int fd;

	look();
	if (!text || sscanf(text, "%15[^:]:%15[^:]:%ld", kind, word, &at) != 3) return;
	for (size_t i = 0; i < sizeof hows / sizeof *hows; i++)
		if (strcmp(word, hows[i].name) == 0) how = hows[i].how, number = hows[i].number;
	if (file && (fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) >= 0) {
		log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
		close(fd);
	}
	backtrace(frame, 1);       /* loads what it needs before anything is counted */
	unsetenv("LD_PRELOAD");
	if (strcmp(kind, "call") == 0) {
		what = CALL;
		trap_calls();
	} else {
		dl_iterate_phdr(note_library, NULL);
		what = strcmp(kind, "memory") == 0 ? MEMORY : LIBRARY;
	}
}

__attribute__((destructor)) static void end(void)
{
	char line[64];

	if ((what != MEMORY && what != LIBRARY) || at) return;
	const bool sites = what == MEMORY;
	const long n = atomic_load(&count);

	what = OFF;
	snprintf(line, sizeof line, "%ld allocations\n", n);
	say(line);
	for (long i = 0; sites && i < n && i < SITES; i++) {
		snprintf(line, sizeof line, "%08x\n", site[i]);
		say(line);
	}
}
